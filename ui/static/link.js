// One question at a time to Python, each answered once or given up as lost.

class Link {
  constructor(props, trigger, watch, patience = 8000) {
    Object.assign(this, { props, trigger, patience, serial: 0, asked: new Map(), last: Promise.resolve() });
    watch("answer", () => this.receive(JSON.parse(props.answer || "{}")));
  }

  ask(action, body = {}, patience = this.patience) { // -> the answer; {isLost: true} without one
    const answer = this.last.then(() => this.send(action, body, patience));
    this.last = answer;
    return answer;
  }

  send(action, body, patience) {
    return new Promise((resolve) => {
      const serial = ++this.serial;
      const timer = setTimeout(() => this.receive({ serial, isLost: true }), patience);
      this.asked.set(serial, { resolve, timer });
      this.props.value = JSON.stringify({ ...body, action, serial });
      this.trigger("ask");
    });
  }

  receive(answer) {
    const waiting = this.asked.get(answer.serial);
    if (!waiting) return; // it came after we had given it up
    clearTimeout(waiting.timer);
    this.asked.delete(answer.serial);
    waiting.resolve(answer);
  }
}

function newTakeId() { // 128 random bits; crypto.randomUUID is missing over plain http
  return [...crypto.getRandomValues(new Uint8Array(16))].map((b) => b.toString(16).padStart(2, "0")).join("");
}
