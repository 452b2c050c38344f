"""The request pipeline: state, deadlines, proxies, headers, languages, sessions, guards, rate limits, logs, traces."""
