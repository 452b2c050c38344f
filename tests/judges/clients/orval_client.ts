// Use the client that orval generates: `node orval_client.ts ADDRESS KEY` prints what it got.
import { attempt, attempts, getStats, useradd } from "./orval.ts";
import type { NewUser, Problem } from "./orval.ts";

const [, key] = process.argv.slice(2); // the address is in the generated client
const options = { headers: { Authorization: `Bearer ${key}` } };
const anna: NewUser = { name: "Анна", username: "anna.orval", phone: "+7 912 555-01-43", birth_date: "1990-12-31" };

const created = await useradd(anna);
const conflict = await useradd(anna);
const invalid = await useradd({ name: " ", username: "b", phone: "12" });
const stats = await getStats({ period: "today" }, options);
const rejected = await attempts({ result: ["rejected"], limit: 2 }, options);
if (created.status !== 201) throw new Error("nobody was created");
const one = await attempt(created.data.attempt_id, {}, options);

const problem = (refusal: { data: Problem | object | string }): Problem => {
  if (typeof refusal.data !== "object" || !("code" in refusal.data)) throw new Error("no problem document");
  return refusal.data;
};
console.log(
  JSON.stringify({
    created: [created.status, created.data.login, created.data.user.birth_date],
    conflict: [conflict.status, problem(conflict).code, problem(conflict).errors?.map((error) => error.code)],
    invalid: [invalid.status, problem(invalid).code, problem(invalid).errors?.map((error) => error.field).sort()],
    stats: stats.status === 200 && [stats.status, stats.data.total, stats.data.period.zone],
    attempts: rejected.status === 200 && rejected.data.attempts.map((item) => item.code),
    attempt: one.status === 200 && [one.data.username, one.data.outcome],
  }),
);
