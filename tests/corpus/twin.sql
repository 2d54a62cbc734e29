-- Statements that an application may send over the shop of the differential test, one a line. Each is run on a plain
-- database and, through the proxy, on a sealed one, in every protocol and format: none may be refused, all must answer alike.

-- Row locks, cursors, TABLE
select id from customers where email = 'ana@x.org' order by id for no key update of customers nowait
select c.id, o.id from customers c join orders o on o.customer_id = c.id where c.email = 'eve@x.org' order by 2 for update of c, o skip locked
select id from orders where billing_email = 'bob@x.org' order by id for key share
select id from (table orders) x where billing_email = 'eve@x.org' order by id
select email from customers tablesample bernoulli (100) where email = 'bob@x.org'
select email, total from (customers c join orders o on c.id = o.customer_id) as j (cid, email) where email = 'eve@x.org' order by total is null, cid
with x as (table customers) select count(*), count(email) from x
create table made (like payments_low including all excluding indexes, extra int, check (extra > 0))
create table made (extra int, like payments_low)
alter table only orders alter column billing_email set statistics 100, alter total set (n_distinct = 3), add column x int

-- Spellings of comparisons
select id from customers where email operator(pg_catalog.=) 'ana@x.org'
select id from customers where email = any('{ana@x.org,bob@x.org,NULL,"null"}') order by id
select id from customers where badge = any('{7,-5}'::int[]) order by id
select id from orders where billing_email = any('{}') order by id
select id from customers where email <> all('{ana@x.org,eve@x.org}'::text[]) order by id
select id from orders where total = any('{10.50,0}'::numeric[]) order by id
select id from customers where row(id, email) = row(1, 'ana@x.org')
select id from customers where row(id, email) in (row(1, 'ana@x.org'), row(2, 'bob@x.org')) order by id
select id from customers where email = case when id = 1 then 'ana@x.org' else 'eve@x.org' end order by id
select id, case email when 'ana@x.org' then 'a' when 'bob@x.org' then 'b' else '-' end from customers order by id
select nullif(nullif(email, 'ana@x.org'), 'bob@x.org') from customers order by id

select id from orders where total = 10.5::numeric order by id
select id from orders where total = '10.50'::numeric(12,2) and placed = '2020-02-29'::date order by id
update orders set total = 7.125::numeric where id = 1

-- Rows
select c from customers c order by id
select o from orders o order by id
select customers from customers where id = 3
select (o).billing_email, (o).id from orders o order by o.id
select (o).*, 1 as one from orders o order by o.id
select p from payments p order by id
select p from payments_low p order by id
select a from addresses a order by id
select row(email, name, id, badge, joined, born) from customers order by id
select (id, email) from customers order by id
select row(o.*) from orders o order by id
select row_to_json(row(o.*)) from orders o order by id
select distinct o from orders o where o.billing_email = 'eve@x.org' and id = 6
select ((select x from orders x where id = 2)).billing_email
select (select x from orders x where id = 2)
select o is null, o is not null, o.id from orders o order by id
select x from (select id, email, phone from customers) x order by x.id
select c from customers b left join (select id, email from customers where id < 3) c on c.id = b.id order by b.id
select count(c) from customers c
select j from jsonb_build_object('a', 1) j

-- Arrays
select array[email, 'x'] from customers order by id
select array(select email from customers order by id)
select array(select badge from customers order by id)
select (array_agg(email order by id))[1], (array_agg(email order by id))[2:3] from customers
select (array_agg(joined order by id))[1] from customers
select unnest(array_agg(email order by id)) from customers
select array_remove(array_agg(email order by id), null), cardinality(array_agg(email)), array_length(array_agg(badge), 1) from customers
select array_remove(array_agg(email order by id), 'ana@x.org') from customers
select e, count(*) from (select array_agg(email) as es from customers) x, unnest(x.es) as e group by e order by count(*) desc, e is null limit 0
select customer_id, array_agg(distinct billing_email) is null from orders group by customer_id order by 1
insert into customers (id, email) select 100 + n, e from unnest(array['n1@x.org', 'n2@x.org']) with ordinality as u (e, n)
insert into customers (id, email) select * from unnest('{101,102}'::int[], '{m1@x.org,m2@x.org}'::text[])
insert into notes (id, email) select generate_series(100, 101), unnest(array['a', 'b']::text[])

-- Documents
select row_to_json(o) -> 'billing_email', row_to_json(o) -> 'id', row_to_json(o) ->> 'id' from orders o order by id
select to_jsonb(o) -> 'total' from orders o order by id
select coalesce(json_agg(o order by id), '[]')::character varying as body from orders o
select coalesce(json_agg(row_to_json(x)), '[]')::text from (select id, email, badge from customers order by id) x
select to_jsonb(o) - 'total', to_jsonb(o) || '{"a":1}', to_jsonb(o) || jsonb_build_object('c', o.billing_email, 'd', null) from orders o order by id
select jsonb_build_object('k', 1) || jsonb_build_object('l', billing_email) from orders order by id
select jsonb_pretty(to_jsonb(o)), row_to_json(o)::jsonb::text from orders o order by id
select json_agg(o order by id) -> 0 from orders o
select json_build_object('p', json_build_object('payer', payer, 'amount', amount)) -> 'p' -> 'payer' from payments order by id
select (json_agg(json_build_array(id, email) order by id)) ->> 0 from customers

-- Types
select pg_typeof(email), pg_typeof(born) as b, pg_typeof(total), pg_typeof(billing_email) from customers c, orders o where c.id = 1 and o.id = 1

-- Constants that alternate
update customers set (name, badge, note) = row('n', 5, default) where id = 1
select id from customers where email in (select distinct 'ana@x.org' from orders) order by id
update customers set name = (case when (id = 1) then 'a' when id = 2 then 'b' else null end)::text where id in (1, 2, 3)
update customers set badge = case id when 1 then 17 when 2 then 18 end where id in (1, 2)
update customers set note = (case when (id = 1) then 'a' else null end)::text, email = coalesce(null, 'new@x.org') where id = 1
update orders set total = (case when id = 1 then 5 else 6.5 end)::numeric(12,2) where id < 3
update customers set phone = case when id = 1 then '+0' else '+1' end, score = case id when 1 then 5 else 6 end where id < 3

-- Triggers, policies, routines
create policy p on orders for update to shop using (billing_email = 'ana@x.org') with check (billing_email is not null)
create trigger t before update of billing_email on orders for each row when (old.billing_email is distinct from new.billing_email) execute function suppress_redundant_updates_trigger()
create trigger t before update on payments_low for each row when (new.payer = 'ana@x.org') execute function suppress_redundant_updates_trigger('a', 1)
do $$ begin update customers set note = 'x' where id = 3; end $$
create function f() returns bigint language sql as 'select count(*) from customers'
select a.id, b.id from orders a join orders b on a.* = b.* order by 1
select a.id from orders a join orders b on a is not distinct from b order by 1
