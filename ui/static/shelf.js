// Copies of unsent takes in this browser, voice included: a crash or a lost network costs at most
// two seconds. IndexedDB outlives a killed browser; localStorage is written while a page closes.

class Shelf {
  constructor() {
    this.prefix = "loctex-take-";
    this.database = new Promise((resolve, reject) => {
      const request = indexedDB.open("loctex", 1);
      request.onupgradeneeded = () => {
        request.result.createObjectStore("takes", { keyPath: "take_id" });
        request.result.createObjectStore("voices", { keyPath: ["take_id", "at"] });
      };
      request.onsuccess = () => resolve(request.result);
      request.onerror = () => reject(request.error);
      setTimeout(() => reject(new Error("IndexedDB does not open")), 5000); // nobody waits for it
    });
    this.database.catch(() => {}); // a private window may have none: the server's copy is the other
  }

  async run(stores, kind, work) { // -> the result of the request that work makes
    const transaction = (await this.database).transaction(stores, kind);
    const request = work(...stores.map((name) => transaction.objectStore(name)));
    return new Promise((resolve, reject) => {
      transaction.oncomplete = () => resolve(request?.result);
      transaction.onerror = transaction.onabort = () => reject(transaction.error);
    });
  }

  async put(draft, piece = null) { // piece: {at, samples: Int16Array}, behind what is kept
    try {
      await this.run(["takes", "voices"], "readwrite", (takes, voices) => {
        takes.put(draft);
        if (piece?.samples.length) voices.put({ take_id: draft.take_id, ...piece });
      });
      return true;
    } catch { // full or forbidden: the server's copy is the other one
      return false;
    }
  }

  putNow(draft) { // while the page closes nothing else is sure to be written
    try {
      localStorage.setItem(this.prefix + draft.take_id, JSON.stringify(draft));
    } catch (error) {
      if (error.name !== "QuotaExceededError") throw error;
    }
  }

  async drop(takeId) {
    localStorage.removeItem(this.prefix + takeId);
    await this.run(["takes", "voices"], "readwrite", (takes, voices) => {
      takes.delete(takeId);
      voices.delete(IDBKeyRange.bound([takeId, 0], [takeId, Infinity]));
    }).catch(() => {});
  }

  async all() { // -> the newest copy of each draft
    const kept = await this.run(["takes"], "readonly", (takes) => takes.getAll()).catch(() => []);
    const drafts = new Map(kept.map((draft) => [draft.take_id, draft]));
    for (const key of Object.keys(localStorage).filter((name) => name.startsWith(this.prefix))) {
      const draft = JSON.parse(localStorage.getItem(key));
      if (!(drafts.get(draft.take_id)?.saved > draft.saved)) drafts.set(draft.take_id, draft);
    }
    return [...drafts.values()];
  }

  async voice(takeId) { // -> the pieces of its voice, in order
    const range = IDBKeyRange.bound([takeId, 0], [takeId, Infinity]);
    return this.run(["voices"], "readonly", (voices) => voices.getAll(range)).catch(() => []);
  }
}
