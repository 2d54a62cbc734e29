-- Every backslash command of psql that asks the server something, over sealed tables.
\set ECHO queries
\pset pager off
\ir schema.sql
\conninfo
\d
\d person
\d+ person
\dS+ person
\d visit
\d+ visit
\d log
\d+ log
\d log_old
\d heir
\d+ base
\d known
\d+ known
\d+ pages
\d+ sizes
\d person_salary
\d+ person_email_key
\d ticket
\d scratch
\d+ spot
\d per*
\d "person"
\d public.visit
\d nowhere
\d pg_class
\d+ pg_stats
\da
\da total
\daS+ cou*
\dA
\dA+ b*
\dAc btree int4
\dAc+ hash text
\dAf btree text
\dAf+ gin
\dAo btree integer_ops
\dAo+ gin array_ops
\dAp hash
\dAp+ btree integer_ops
\db
\db+
\dc
\dcS iso_8859_1_to*
\dcS+ utf8_to_win1*
\dC
\dC+ integer
\dd
\dd person
\ddS person_*
\dD
\dD+
\dDS pos*
\ddp nothing
\dE
\des
\des+
\det
\det+
\deu
\deu+
\dew
\dew+
\df
\df+ twice
\df twice integer
\dfS lower
\dfa total
\dfn
\dfp
\dft
\dfw
\dfwS rank
\df+ touched
\dF
\dF+ words
\dFd
\dFd+ simple
\dFp
\dFp+ default
\dFt
\dFt+ simple
\dg
\dg+ shop
\dgS pg_read*
\di
\di+
\di person*
\diS pg_class*
\dl
\dl+
\dL
\dL+
\dLS
\dm
\dm+
\dn public
\dnS pg_cat*
\do
\do+ ===
\doS || text
\dO
\dO+ plain
\dOS C
\dp person
\dp base
\dp log*
\z visit
\dP
\dP+
\dPi
\dPt
\dPn log
\drds
\drds shop
\dRp
\dRp+
\dRs
\dRs+
\ds
\ds+
\dt
\dt+
\dt p*
\dtS pg_am
\dtvs
\dtvmsE+
\dT
\dT+
\dTS boo*
\du
\du+ shop
\dv
\dv+
\dvS pg_roles
\dx
\dx+
\dX
\dy
\dy+
\dconfig work_mem
\dconfig+ search_path
\l template0
\l+ template*
\sf twice
\sf+ twice
\sf touched
\sf nowhere
\sv known
\sv+ known
\sv pages
\encoding
\errverbose
-- What is on the client's side, over sealed cells.
select email, name, born, salary, profile, phone from person order by id \gx
select email, born, salary from person order by id \gdesc
select id as first, email as mail from person order by id limit 1 \gset
\echo :first :'mail'
select format('select email from person where id = %s', id) from person order by id \gexec
select email, mood, id from person order by id \crosstabview email mood id
select page, email, size from visit order by id \crosstabview
prepare by_mail as select name from person where email = $1;
execute by_mail('ana@x.org');
\set mail 'o''neil@x.org'
select id, name from person where email = :'mail';
\copy person (email, born) to pstdout csv header
\copy (select email, salary from person order by id) to pstdout (format csv, force_quote *)
copy visit (id, person_id, email, page) from stdin;
900	2	copied@x.org	/copied
\.
select email from visit where id = 900;
\set ON_ERROR_ROLLBACK on
begin;
insert into person (email) values ('ana@x.org');
select count(email) from person;
commit;
\errverbose
\set FETCH_COUNT 2
select id, email, salary from person order by id;
\set FETCH_COUNT 0
\pset format csv
select email, profile from person order by id;
\pset format html
select email from person order by id;
\pset format unaligned
\pset null '(null)'
select email, name from person order by id;
\timing off
