// A voice on the pointer's clock: 16 kHz, mono, 16 bits, sample 0 at "start".
//
// The worklet tells when it had each block; a block cannot be had before its last sample was
// spoken, so the least of these delays, over two seconds, ties the two clocks together.

const RATE = 16000, CLIPPED = 32600, WINDOW_MS = 2000;
const DRIFT = 0.02; // seconds between the two clocks from which samples are moved
const WORKLET = "registerProcessor('loctex-capture', class extends AudioWorkletProcessor {"
  + " process(inputs) { const sound = inputs[0][0];"
  + " if (sound) this.port.postMessage({ sound: sound.slice(), frame: currentFrame, at: Date.now() });"
  + " return true; } });";

class Voice { // the samples of one take; holes are silence
  constructor() {
    this.samples = new Int16Array(RATE * 60);
    this.length = 0;
    this.sent = 0; // samples that the server has
    this.shelved = 0; // samples that this browser has kept
  }

  write(at, samples) {
    const from = Math.max(0, -at), end = at + samples.length;
    if (end <= 0) return;
    if (end > this.samples.length) {
      const larger = new Int16Array(Math.max(end, 2 * this.samples.length));
      larger.set(this.samples.subarray(0, this.length));
      this.samples = larger;
    }
    this.samples.set(samples.subarray(from), at + from);
    this.length = Math.max(this.length, end);
  }

  piece(from, most = 30 * RATE) { // -> {at, pcm}: base64 of little-endian samples
    const part = this.samples.subarray(from, Math.min(this.length, from + most));
    const bytes = new Uint8Array(part.buffer, part.byteOffset, part.byteLength);
    let text = "";
    for (let i = 0; i < bytes.length; i += 8192) text += String.fromCharCode(...bytes.subarray(i, i + 8192));
    return { at: from, pcm: btoa(text) };
  }

  static decode(pcm) { // base64 -> Int16Array
    return new Int16Array(Uint8Array.from(atob(pcm), (c) => c.charCodeAt(0)).buffer);
  }

  wav() { // -> Blob
    const head = new DataView(new ArrayBuffer(44)), size = 2 * this.length;
    const text = (at, letters) => [...letters].forEach((c, i) => head.setUint8(at + i, c.charCodeAt(0)));
    text(0, "RIFF"); head.setUint32(4, 36 + size, true); text(8, "WAVEfmt ");
    head.setUint32(16, 16, true); head.setUint16(20, 1, true); head.setUint16(22, 1, true);
    head.setUint32(24, RATE, true); head.setUint32(28, 2 * RATE, true);
    head.setUint16(32, 2, true); head.setUint16(34, 16, true);
    text(36, "data"); head.setUint32(40, size, true);
    return new Blob([head, this.samples.slice(0, this.length)], { type: "audio/wav" });
  }

  peaks(num) { // -> num x [lowest, highest], -1..1
    return Array.from({ length: num }, (_, i) => {
      let low = 0, high = 0;
      const end = Math.floor((i + 1) * this.length / num);
      for (let k = Math.floor(i * this.length / num); k < end; k++) {
        low = Math.min(low, this.samples[k]);
        high = Math.max(high, this.samples[k]);
      }
      return [low / 32768, high / 32768];
    });
  }
}

class Microphone {
  constructor(onLevel) {
    Object.assign(this, { onLevel, isOpen: false, taping: null, delays: [], peak: 0, heardAt: 0, clippedAt: -1e9 });
  }

  async open() { // throws an Error whose message says the way out
    if (this.isOpen) return;
    if (!navigator.mediaDevices) {
      throw new Error("A browser gives the microphone to secure pages only: open this studio as "
        + "http://localhost (through an SSH tunnel) or over https. Type and Trace work as they are.");
    }
    try {
      this.stream = await navigator.mediaDevices.getUserMedia({
        audio: { channelCount: 1, echoCancellation: false, noiseSuppression: false, autoGainControl: false },
      });
    } catch (error) {
      throw new Error(error.name === "NotFoundError"
        ? "No microphone was found. Plug one in, or use Type or Trace."
        : "The microphone is not allowed. Allow it beside the page's address, or use Type or Trace.");
    }
    this.context = this.newContext();
    const address = URL.createObjectURL(new Blob([WORKLET], { type: "text/javascript" }));
    await this.context.audioWorklet.addModule(address);
    URL.revokeObjectURL(address);
    this.node = new AudioWorkletNode(this.context, "loctex-capture", { numberOfOutputs: 0 });
    this.node.port.onmessage = ({ data }) => this.onBlock(data);
    this.source.connect(this.node);
    await this.context.resume();
    this.isOpen = true;
    this.heardAt = performance.now();
    await this.settle();
  }

  newContext() { // at 16 kHz; Firefox refuses another rate than the microphone's: resampled below
    for (const options of [{ sampleRate: RATE }, {}]) {
      const context = new AudioContext({ latencyHint: "interactive", ...options });
      try {
        this.source = context.createMediaStreamSource(this.stream);
        return context;
      } catch (error) {
        context.close();
        if (error.name !== "NotSupportedError" || !options.sampleRate) throw error;
      }
    }
  }

  async settle() { // until the clocks are tied by some blocks
    const began = performance.now();
    while (this.delays.length < 25 && performance.now() - began < 1000) {
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
  }

  close() {
    if (!this.isOpen) return;
    this.stream.getTracks().forEach((track) => track.stop());
    this.context.close();
    Object.assign(this, { isOpen: false, delays: [], taping: null });
  }

  start(voice, origin, from) { // origin: performance.now() of second 0; from: second of the take
    this.taping = { voice, origin, first: Math.round(from * RATE), last: Infinity, shift: null };
  }

  async stop(until) { // until: second of the take; what was spoken before it may still be on its way
    if (!this.taping) return;
    const { taping } = this, began = performance.now(), end = Math.round(until * RATE);
    taping.last = end;
    while (this.taping === taping && taping.voice.length < end && performance.now() - began < 500) {
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
    taping.voice.write(taping.voice.length, new Int16Array(Math.max(0, end - taping.voice.length)));
    if (this.taping === taping) this.taping = null;
  }

  onBlock({ sound, frame, at }) {
    const now = performance.now(), rate = this.context.sampleRate;
    const had = Math.min(now, at + now - Date.now()); // on this page's clock
    this.delays.push([now, had - 1000 * (frame + sound.length) / rate]);
    while (this.delays[0][0] < now - WINDOW_MS) this.delays.shift();
    const samples = Int16Array.from(sound, (v) => Math.max(-32768, Math.min(32767, Math.round(v * 32768))));
    this.measure(samples, now);
    if (this.taping) this.tape(samples, frame, rate);
  }

  tape(samples, frame, rate) {
    const { taping } = this, zero = Math.min(...this.delays.map(([, delay]) => delay));
    const wanted = (zero - taping.origin) / 1000; // second of the take of the context's frame 0
    if (taping.shift === null || Math.abs(wanted - taping.shift) > DRIFT) taping.shift = wanted;
    const begin = (taping.shift + frame / rate) * RATE, at = Math.round(begin);
    const num = Math.round(begin + samples.length * RATE / rate) - at; // blocks join without a hole
    const part = rate === RATE ? samples : this.resampled(samples, num);
    const from = Math.max(0, taping.first - at);
    const to = Math.min(part.length, taping.last - at);
    if (to > from) taping.voice.write(at + from, part.subarray(from, to));
  }

  resampled(samples, num) { // means of what each new sample covers
    return Int16Array.from({ length: num }, (_, i) => {
      const from = Math.floor(i * samples.length / num);
      const part = samples.subarray(from, Math.max(from + 1, Math.floor((i + 1) * samples.length / num)));
      return part.reduce((sum, value) => sum + value, 0) / part.length;
    });
  }

  measure(samples, now) {
    const peak = samples.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
    this.peak = Math.max(peak, 0.92 * this.peak);
    if (peak > 330) this.heardAt = now; // -40 dB
    if (peak > CLIPPED) this.clippedAt = now;
    this.onLevel(this);
  }

  get warning() { // what a person should do now; empty when all is well
    const now = performance.now();
    if (now - this.clippedAt < 2500) return "Too loud: move away from the microphone";
    if (now - this.heardAt > 4000) return "Nothing is heard: check the microphone";
    return "";
  }
}
