// One question at a time to Python, each answered once or given up as lost.

class Link {
  constructor(patience = 8000) {
    Object.assign(this, { patience, pause: 1000, last: Promise.resolve() });
  }

  ask(action, body = {}, patience = this.patience) { // -> the answer; {isLost: true} without one
    const answer = this.last.then(() => this.send(action, body, patience));
    this.last = answer;
    return answer;
  }

  async send(action, body, patience) {
    try {
      const address = new URL(window.gradio_config.root + "/recorder/" + action, document.baseURI);
      const reply = await fetch(address, {
        method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body),
        signal: AbortSignal.timeout(patience),
      });
      const answer = await reply.json();
      if (reply.ok) return answer;
      if (reply.status < 500) return { problem: answer.detail };
    } catch { // no network, no studio, or something before it that speaks no JSON
    }
    await new Promise((resolve) => setTimeout(resolve, this.pause)); // who asks again does not hammer
    return { isLost: true };
  }
}

function newTakeId() { // 128 random bits; crypto.randomUUID is missing over plain http
  return [...crypto.getRandomValues(new Uint8Array(16))].map((b) => b.toString(16).padStart(2, "0")).join("");
}
