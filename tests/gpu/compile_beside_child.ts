/** A start in a process of its own: loads the default model, says a few words, and tells how many devices it opened. */
import { generate, loadModel, openDevice } from "../../mod.ts";

const lost: Promise<unknown>[] = [];
const { requestDevice } = GPUAdapter.prototype;
GPUAdapter.prototype.requestDevice = async function (descriptor) {
  const gpu = await requestDevice.call(this, descriptor);
  lost.push(gpu.lost);
  return gpu;
};

const device = await openDevice({ tuningFile: null });
const { isCpu } = device;
const model = await loadModel(new URL("../../models/tensaur-tiny", import.meta.url).pathname, { device, warmUp: [8] });
const { sequences } = await generate(model, { inputIds: [[1, 2, 3, 4, 5, 6, 7, 8]] }, {
  maxNewTokens: 4,
  doSample: false,
});
model.dispose();
device.close();
await Promise.all(lost);
console.log(JSON.stringify({ isCpu, devices: lost.length, sequences }));
