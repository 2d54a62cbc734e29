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

-- What ON and USING see of a list
select t.id from orders, cards a right join orders t on a.email = t.billing_email and placed = placed where orders.id = 1 order by t.id
select c.id, o.id from customers c join notes n using (id), addresses a join orders o using (id) where c.badge = a.badge order by 1, 2
select c.id, x.e from customers c join notes n using (id), lateral (select id as e) x order by 1

-- Constants of a subquery that a whole row shows, too
select to_jsonb(a), a.k::text from (select 'false' as k, id from customers where id < 3 union all select true, id from orders where id < 3) a order by id, k
select to_jsonb(a), a.k from (select 'false' as k, id from customers where id < 3 union all select true, id from orders where id < 3) a order by id, k
select a, a.k::int from (values ('1', 2), ('3', 4)) a (k, n) join customers c on c.id = a.n order by n
select row_to_json(a), c.id from (values ('ana@x.org'), ('eve@x.org')) a (k) join customers c on c.email = 'ana@x.org' order by k

select v.k, o.id from (values (9999999999.99), (10.50)) v (k) join orders o on o.total = v.k order by 2
select v.k, o.id from (values ('ana@x.org'), ('eve@x.org')) v (k) join orders o on o.billing_email = v.k order by 2
select v.k, o.id from (values (10.50::numeric(12,2)), (7::numeric(12,2))) v (k) join orders o on o.total = v.k order by 2

-- What * means after USING and NATURAL
select * from orders o join customers c using (id) order by id
select * from notes, orders o join customers c using (id) where notes.id = 1 order by o.id
select * from customers c join notes n using (id), orders o where o.id = 1 order by c.id
select * from notes n cross join (customers c left join orders o using (id)) order by n.id, c.id
select * from customers c right join orders o using (id) cross join (select 7 as id) x order by o.id
select * from customers c full join orders o using (id), (select 7 as id) x order by o.id, c.id
select * from customers c join notes n using (id) join orders o using (id) order by id
select * from (customers c join notes n using (id)) cross join (orders o natural join cards k) order by c.id, o.id
select * from notes a join notes b using (id), customers c natural join (select id, email from customers) d order by a.id, c.id
select * from (customers c join orders o using (id)) as j order by id
select * from (select a.email, b.email, a.id from customers a join customers b using (id)) x order by id
select x.*, n.* from (payments a join payments b using (id)) x left join notes n using (id) order by x.id
select email, j.id from customers c join orders o using (id) as j order by j.id
select j from customers c join (select id, email, 1 as one from customers) d using (email, id) as j order by j.id
select j.*, c.badge from customers c join (select id, email from customers) d using (email, id) as j where j.email = 'ana@x.org'

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
select row(id, row(email, note, row(badge, null)), 'x "y"') from customers order by id
select row(x, 1), (x, (x.email, 2)) from (select id, email, name from customers) x order by x.id
select array_agg(row(id, email, joined) order by id), array_agg(x order by id desc) from (select id, email, joined from customers) x
select array_agg(row(row(email), array[email], id) order by id) from customers
select array(select row(email, id) from customers order by id), array(select x from (select badge, name from customers where id > 1000) x)
select (array_agg(x order by x.id))[1], (array_agg(x order by x.id))[2:3], cardinality(array_agg(x)) from (select id, email from customers) x
select ((array_agg(o order by id))[2]).billing_email, to_json(array_agg(row(o.total, o.id) order by id)) from orders o
select row(id, array_agg(email order by id), array_agg(badge)) from customers group by id order by id
select row(c.id, x) from customers c left join (select id, email from customers where id < 3) x on x.id = c.id order by c.id
select row(p.payer, row(p.amount, p.token, p.doc), array[p.payer], p.kind), array_agg(row(p.token, row(p.doc, p.amount))) over (order by p.id) from payments p order by p.id
select array_agg(distinct row(o.billing_email, o.placed)) is null from orders o

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

-- Clauses that the parser lacks
select email, sum(id) over (order by id rows between 1 preceding and 1 following exclude current row) from customers order by id
select id, count(*) over (order by badge is null groups between unbounded preceding and current row exclude ties) from customers where email is not null order by id
select c.email, n, e from customers c, rows from (generate_series(1, 2), unnest(array['ana@x.org', 'bob@x.org', null])) with ordinality as x (n, e, o) where c.email = e order by o
select x.*, c.badge from customers c, rows from (generate_series(1, c.id), json_array_elements_text('["a"]')) as x where c.id = 2 order by 1
select c.id, u.*, v.*, e from customers c, jsonb_array_elements_text('["a"]') u, unnest(array[1]) v, json_array_elements('[2]') with ordinality as w (e, o) where c.email = 'ana@x.org'
select c.email, r.b, json_to_record.a from customers c, json_to_record('{"a": 1}') as (a int), json_to_record('{"b": "x"}') as r (b text) order by c.id
with recursive t (id, mail) as (select id, email from customers where id = 1 union all select t.id + 1, t.mail from t where t.id < 3) search depth first by id set o select id, mail from t order by o
with recursive t (id, mail) as (select id, email from customers where id = 1 union all select t.id + 1, t.mail from t where t.id < 3) search breadth first by id set o cycle id set c using p select t.id, c.id, c.email, t.c from t join customers c on c.email = t.mail order by t.o
with recursive t (id, mail) as (select id, email from customers where id = 1 union all select 3 - t.id, t.mail from t) cycle id set c to 'y' default 'n' using p select id, mail, c, p from t order by p
select note, count(distinct email) from customers group by distinct rollup (note), rollup (note) order by 1, 2
select email from customers where id between symmetric 3 and 1 and id not between symmetric 2 and 2 and id between asymmetric 1 and 9 order by id
select email from customers where id < 4 order by id limit all offset 1
select email from customers where id < 4 order by id fetch first row only
select email from customers where id < 4 order by id fetch next 2 row with ties
select email, trim(leading from note), trim(both from note), substring(note similar '%#"i#"%' escape '#'), collation for (note) from customers order by id
select trim(leading from phone), substring(phone from 2 for 3), position('1' in phone), overlay(phone placing 'x' from 1), extract(year from seen), ceil(score), seen at time zone 'utc' from customers, orders where orders.id = customers.id order by customers.id

-- From PostgreSQL 16 on: SQL/JSON constructors
select json_object('id': id, 'mail' value email null on null returning jsonb) from customers order by id
select json_object('mail': email, 'more': json_array(name, note null on null) absent on null with unique keys returning text) from customers order by id
select json_object('a': email absent on null), json_object('b': badge, 'c': joined, 'd': c) from customers c order by id
select json_objectagg(id: email absent on null with unique returning jsonb), json_objectagg(id value badge) from customers
select json_arrayagg(email order by id), json_arrayagg(email order by id null on null returning text), json_arrayagg(badge order by id null on null returning jsonb) from customers
select json_array(email, email), json_array(email, email returning jsonb), json_array(email), json_array(email, badge, id null on null) from customers order by id
select json_array(select billing_email from orders order by id), json_array(select total from orders where id > 1000000)
select json_arrayagg(o order by id) from orders o
select json_object('a': 1, 'b': note), json_array(note, 2), json_object('{a, 1}'), json_object(note: id) from customers where email = 'ana@x.org'
select email, note is json, note is not json object, '{"a": 1, "a": 2}' is json object with unique keys from customers order by id
select x.j -> 'mail', x.j ->> 'id' from (select json_object('id': id, 'mail': email) as j from customers) x where x.j ->> 'id' = '1'

-- From PostgreSQL 17 on: queries of documents
select email, json_value('{"a": 5}', '$.a' returning int default 0 on empty null on error), json_query('{"b": [1]}', '$.b' with conditional array wrapper), json_exists('{}', '$.c' error on error) from customers order by id
select c.email, j.* from customers c, json_table('[{"a": "x", "b": [{"c": 1.5}]}, {}]', '$[*]' as root columns (n for ordinality, a text path '$.a' default '-' on empty, e int exists path '$.b', nested path '$.b[*]' as inside columns (c numeric(12,2)))) as j where c.email = 'ana@x.org' order by j.n
select json_scalar(email), json_scalar(badge), json_scalar(joined), json_serialize(json_object('a': email)), json('{"a": 1}' with unique keys) from customers order by id

-- What outputs without an alias are called
select s.*, c.id from customers c, lateral (select (select o.total from orders o where o.id = -1), (select x.email from customers x where x.id = c.id), (select case when c.id > 1 then 1 else (select 2 as two) end)) s order by c.id
