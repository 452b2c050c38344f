-- Counts by hour of the first three attempts.
insert into attempt_counts (hour, status, code, number)
select date_trunc('hour', received_at, 'UTC'), status, code, count(*) from attempts where seq <= 3 group by 1, 2, 3;
update watermarks set seq = 3 where name = 'attempt_counts';
