// Use the types that openapi-typescript generates: `node openapi_fetch.ts ADDRESS KEY` prints what it got.
import createClient from "openapi-fetch";

import type { components, paths } from "./schema.ts";

const [address, key] = process.argv.slice(2);
const client = createClient<paths>({ baseUrl: address, headers: { Authorization: `Bearer ${key}` } });
const anna: components["schemas"]["NewUser"] = {
  name: "Анна",
  username: "anna.fetch",
  phone: "+7 912 555-01-42",
  birth_date: "1990-12-31",
};

const created = await client.POST("/api/v1/useradd/", { body: anna });
const conflict = await client.POST("/api/v1/useradd/", { body: anna });
const invalid = await client.POST("/api/v1/useradd/", { body: { name: " ", username: "b", phone: "12" } });
const stats = await client.GET("/api/v1/stats/", { params: { query: { period: "today" } } });
const rejected = await client.GET("/api/v1/attempts/", { params: { query: { result: ["rejected"], limit: 2 } } });
if (!created.data || !("login" in created.data)) throw new Error("nobody was created");
const id = created.data.attempt_id;
const one = await client.GET("/api/v1/attempts/{attempt_id}/", { params: { path: { attempt_id: id } } });

type Refusal = components["schemas"]["Problem"] | string | undefined;
const problem = (refusal: Refusal): components["schemas"]["Problem"] => {
  if (typeof refusal !== "object") throw new Error("no problem document");
  return refusal;
};
console.log(
  JSON.stringify({
    created: [created.response.status, created.data.login, created.data.user.birth_date],
    conflict: [conflict.response.status, problem(conflict.error).code, problem(conflict.error).errors?.map((e) => e.code)],
    invalid: [invalid.response.status, problem(invalid.error).code, problem(invalid.error).errors?.map((e) => e.field).sort()],
    stats: [stats.response.status, stats.data?.total, stats.data?.period.zone],
    attempts: rejected.data?.attempts.map((item) => item.code),
    attempt: [one.data?.username, one.data?.outcome],
  }),
);
