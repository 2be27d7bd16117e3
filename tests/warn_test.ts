import { assertEquals } from "@std/assert";
import { setWarningHook, warn, warnOnce } from "../src/warn.ts";

Deno.test("warn() tells the hook each time, warnOnce() once a text and hook", () => {
  const heard: string[] = [];
  const listen = () => setWarningHook((category, message) => heard.push(`${category}|${message}`));
  const before = listen();
  try {
    warn("UserWarning", "a");
    warn("UserWarning", "a");
    warnOnce("UserWarning", "b");
    warnOnce("UserWarning", "b");
    warnOnce("FutureWarning", "b");
    listen();
    warnOnce("UserWarning", "b");
  } finally {
    setWarningHook(before);
  }
  assertEquals(heard, [
    "UserWarning|a",
    "UserWarning|a",
    "UserWarning|b",
    "FutureWarning|b",
    "UserWarning|b",
  ]);
});

Deno.test("setWarningHook() without a hook goes back to standard error and returns the last one", () => {
  const hook = () => {};
  const before = setWarningHook(hook);
  assertEquals(setWarningHook(), hook);
  setWarningHook(before);
});
