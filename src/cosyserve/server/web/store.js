// Takes on this computer: what describes them, and their sound, which is read when it is heard. What the browser does not
// keep, or has no room for, is in memory until the page is closed.

export const MOST_BYTES = 200e6;

const opening = new Promise((resolve) => {
  try {
    const request = indexedDB.open("cosyserve", 1);
    request.onupgradeneeded = () => {
      request.result.createObjectStore("takes", { keyPath: "id" });
      request.result.createObjectStore("sounds");
    };
    request.onsuccess = () => resolve(request.result);
    request.onerror = request.onblocked = () => resolve(null);
  } catch {
    resolve(null);
  }
});

const memory = { takes: new Map(), sounds: new Map() };

export const isLasting = async () => Boolean(await opening);

// Runs `work` with the two stores, and gives the result of the request that it returns.
async function within(mode, work) {
  const database = await opening;
  const transaction = database.transaction(["takes", "sounds"], mode);
  return new Promise((resolve, reject) => {
    const request = work(transaction.objectStore("takes"), transaction.objectStore("sounds"));
    transaction.oncomplete = () => resolve(request?.result);
    transaction.onabort = transaction.onerror = () => reject(transaction.error ?? new Error("not kept"));
  });
}

// The newest first.
export async function allTakes() {
  const found = (await isLasting()) ? await within("readonly", (takes) => takes.getAll()) : [];
  return [...found, ...memory.takes.values()].sort((one, other) => other.created - one.created);
}

export async function soundOf(id) {
  if (memory.sounds.has(id)) return memory.sounds.get(id);
  return (await isLasting()) ? within("readonly", (_, sounds) => sounds.get(id)) : undefined;
}

// Keeps a record with its sound, and gives the ids of those that had to go for it.
export async function keepTake(record, sound) {
  await put(record, sound).catch(async () => {
    const oldest = (await allTakes()).filter(({ id, starred }) => id !== record.id && !starred).at(-1);
    if (oldest) await removeTakes([oldest.id]); // the disk is full
    await put(record, sound).catch(() => remember(record, sound));
  });
  const takes = await allTakes();
  const stays = ({ id, starred }) => starred || id === record.id;
  let bytes = takes.filter(stays).reduce((sum, take) => sum + take.bytes, 0);
  const gone = takes.filter((take) => !stays(take) && (bytes += take.bytes) > MOST_BYTES).map(({ id }) => id);
  if (gone.length) await removeTakes(gone);
  return gone;
}

async function put(record, sound) {
  if (await isLasting()) {
    await within("readwrite", (takes, sounds) => {
      sounds.put(sound, record.id);
      return takes.put(record);
    });
  } else remember(record, sound);
}

function remember(record, sound) {
  memory.takes.set(record.id, record);
  memory.sounds.set(record.id, sound);
}

export async function changeTake(record) {
  if (memory.takes.has(record.id)) return;
  if (await isLasting()) await within("readwrite", (takes) => takes.put(record));
}

export async function removeTakes(ids) {
  for (const id of ids) for (const kind of ["takes", "sounds"]) memory[kind].delete(id);
  if (!(await isLasting())) return;
  await within("readwrite", (takes, sounds) => {
    for (const id of ids) {
      takes.delete(id);
      sounds.delete(id);
    }
  });
}
