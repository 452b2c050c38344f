-- Counts by grain of the first three attempts, each of which took a millisecond.
insert into attempt_counts (grain, at, status, code, number, durations)
select grain, at, status, code, count(*), array[count(*)]
  from attempts cross join lateral (
       values ('15min', date_bin('15 minutes', received_at, timestamptz '2000-01-01 00:00Z')),
              ('hour', date_trunc('hour', received_at, 'UTC')), ('day', date_trunc('day', received_at, 'UTC')),
              ('month', date_trunc('month', received_at, 'UTC'))
  ) g (grain, at)
 where seq <= 3
 group by 1, 2, 3, 4;
update watermarks set seq = 3 where name = 'attempt_counts';
