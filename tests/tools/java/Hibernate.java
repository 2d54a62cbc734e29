// What an application does with Hibernate, unchanged: java Hibernate URL
//
// hbm2ddl creates the schema, validates it, updates it to a second version of the entities, and validates that. Prints what
// it is answered, one line each; the tests compare what it prints over PostgreSQL itself and through pgveil. Needs a
// database without the tables person and visit. Deliberately not: judging the answers.

import java.math.BigDecimal;
import java.net.URI;
import java.sql.Date;
import java.util.Arrays;
import java.util.List;
import java.util.Properties;
import javax.persistence.CascadeType;
import javax.persistence.Column;
import javax.persistence.Entity;
import javax.persistence.FetchType;
import javax.persistence.GeneratedValue;
import javax.persistence.GenerationType;
import javax.persistence.Id;
import javax.persistence.JoinColumn;
import javax.persistence.ManyToOne;
import javax.persistence.OneToMany;
import javax.persistence.OrderBy;
import javax.persistence.Table;
import javax.persistence.Version;
import org.hibernate.LockMode;
import org.hibernate.ScrollMode;
import org.hibernate.ScrollableResults;
import org.hibernate.Session;
import org.hibernate.SessionFactory;
import org.hibernate.Transaction;
import org.hibernate.cfg.Configuration;
import org.hibernate.criterion.Order;
import org.hibernate.criterion.Restrictions;
import org.hibernate.exception.ConstraintViolationException;
import org.hibernate.tool.hbm2ddl.SchemaUpdate;
import org.hibernate.tool.hbm2ddl.SchemaValidator;

public class Hibernate {
    static void say(String name, Object value) {
        System.out.println(name + ": " + value);
    }

    @Entity(name = "Person")
    @Table(name = "person")
    public static class Person {
        @Id
        @GeneratedValue(strategy = GenerationType.IDENTITY)
        Integer id;

        @Column(length = 120, nullable = false, unique = true)
        String email;

        @Column(columnDefinition = "text")
        String name;

        @Column(columnDefinition = "date")
        Date born;

        @Column(precision = 12, scale = 2)
        BigDecimal salary;

        @Column(columnDefinition = "jsonb")
        String profile;

        @Column(length = 40)
        String phone;

        @Version
        Integer version;

        @OneToMany(mappedBy = "person", cascade = CascadeType.ALL, fetch = FetchType.LAZY)
        @OrderBy("id")
        List<Visit> visits;

        public String toString() {
            return Arrays.asList(id, email, name, born, salary, profile, phone, version).toString();
        }
    }

    @Entity(name = "Visit")
    @Table(name = "visit")
    public static class Visit {
        @Id
        Long id;

        @Column(length = 120)
        String email;

        String page;

        @ManyToOne(fetch = FetchType.LAZY)
        @JoinColumn(name = "person_id", nullable = false)
        Person person;

        public String toString() {
            return Arrays.asList(id, email, page).toString();
        }
    }

    // The next version of the application: more columns of the same table.
    @Entity(name = "Person")
    @Table(name = "person")
    public static class NextPerson {
        @Id
        @GeneratedValue(strategy = GenerationType.IDENTITY)
        Integer id;

        @Column(length = 120, nullable = false, unique = true)
        String email;

        @Column(columnDefinition = "text")
        String name;

        @Column(length = 40)
        String nickname;

        @Version
        Integer version;

        public String toString() {
            return Arrays.asList(id, email, name, nickname, version).toString();
        }
    }

    static Configuration configured(String url, Class<?>... entities) {
        URI uri = URI.create(url);
        String[] user = uri.getUserInfo().split(":");
        Properties properties = new Properties();
        properties.put("hibernate.dialect", "org.hibernate.dialect.PostgreSQLDialect");
        properties.put("hibernate.connection.driver_class", "org.postgresql.Driver");
        // Strings without a type of their own, which jsonb columns need.
        properties.put("hibernate.connection.url", "jdbc:postgresql://" + uri.getHost() + ":" + uri.getPort() + uri.getPath()
            + "?sslmode=disable&stringtype=unspecified");
        properties.put("hibernate.connection.username", user[0]);
        properties.put("hibernate.connection.password", user[1]);
        properties.put("hibernate.jdbc.batch_size", "5");
        Configuration configuration = new Configuration().addProperties(properties);
        for (Class<?> entity : entities) configuration.addAnnotatedClass(entity);
        return configuration;
    }

    // What is missing for these entities, and making it.
    static void update(String name, Configuration configuration) {
        SchemaUpdate update = new SchemaUpdate(configuration);
        update.execute(false, true);
        say(name, update.getExceptions());
        new SchemaValidator(configuration).validate();
        say(name, "valid");
    }

    static Person person(int n) {
        Person person = new Person();
        person.email = "p" + n + "@example.org";
        person.name = n % 3 == 0 ? null : "Person " + n;
        person.born = Date.valueOf("19" + (60 + n) + "-02-03");
        person.salary = new BigDecimal("100.50").multiply(new BigDecimal(n));
        person.profile = "{\"n\": " + n + "}";
        person.phone = n % 2 == 0 ? null : "+49 151 " + n;
        return person;
    }

    static void write(Session session) {
        Transaction transaction = session.beginTransaction();
        for (int n = 1; n <= 6; n++) session.save(person(n));
        Person first = (Person) session.createQuery("from Person where email = :email").setString("email", "p1@example.org").uniqueResult();
        for (long n = 1; n <= 7; n++) {
            Visit visit = new Visit();
            visit.id = n;
            visit.email = "p" + n % 2 + "@example.org";
            visit.page = "/" + n;
            visit.person = first;
            session.save(visit);
        }
        first.name = "Renamed";
        first.profile = "{\"renamed\": true}";
        transaction.commit();
        say("first", first);
    }

    static void read(Session session) {
        say("found", session.createQuery("from Person where email in (:emails) order by id").setParameterList("emails", Arrays.asList("p1@example.org", "p3@example.org")).list());
        say("salary", session.createQuery("select p.id from Person p where p.salary = :salary").setBigDecimal("salary", new BigDecimal("402.00")).list());
        say("joined", session.createQuery("select distinct p from Person p left join fetch p.visits v where p.email = 'p1@example.org'").list());
        say("by e-mail", session.createQuery("select v.page from Person p, Visit v where v.email = p.email order by v.id").list());
        say("exists", session.createQuery("select p.email from Person p where exists (from Visit v where v.person = p) order by p.id").list());
        say("counted", session.createQuery("select count(*), count(p.name), count(distinct p.email) from Person p").list().stream().map(row -> Arrays.toString((Object[]) row)).toArray()[0]);
        say("grouped", session.createQuery("select p.salary, count(*) from Person p group by p.salary order by min(p.id)").list().size());
        say("criteria", session.createCriteria(Person.class).add(Restrictions.or(Restrictions.eq("email", "p2@example.org"), Restrictions.isNull("name"))).addOrder(Order.asc("id")).setFirstResult(1).setMaxResults(2).list());
        say("guarded", session.createCriteria(Person.class).add(Restrictions.like("phone", "+49%")).addOrder(Order.desc("id")).list());
        say("native", session.createSQLQuery("select p.* from person p where p.email = :email").addEntity(Person.class).setString("email", "p5@example.org").list());
        Transaction transaction = session.beginTransaction();
        ScrollableResults rows = session.createQuery("from Person order by id").setFetchSize(2).scroll(ScrollMode.FORWARD_ONLY);
        while (rows.next()) say("scrolled", rows.get(0));
        rows.close();
        transaction.commit();
    }

    static void change(SessionFactory factory) {
        Session session = factory.openSession();
        Transaction transaction = session.beginTransaction();
        Person locked = (Person) session.get(Person.class, 2, LockMode.UPGRADE);
        locked.salary = new BigDecimal("1.25");
        session.flush();
        say("updated", session.createQuery("update Person set name = :name where email = :email").setString("name", "Bulk").setString("email", "p4@example.org").executeUpdate());
        transaction.rollback();
        session.clear();
        say("rolled back", session.get(Person.class, 2));
        transaction = session.beginTransaction();
        Person merged = person(5);
        merged.id = 5;
        merged.version = 0;
        merged.name = "Merged";
        session.merge(merged);
        session.delete(session.load(Person.class, 6));
        say("deleted", session.createQuery("delete from Person where email = 'p3@example.org'").executeUpdate());
        transaction.commit();
        session.close();
        session = factory.openSession();
        try {
            session.beginTransaction();
            session.save(person(1));
            session.getTransaction().commit();
        } catch (ConstraintViolationException error) {
            say("duplicate", error.getSQLState() + " " + error.getConstraintName());
            session.getTransaction().rollback();
        }
        session.close();
    }

    public static void main(String[] arguments) {
        Configuration configuration = configured(arguments[0], Person.class, Visit.class);
        update("created", configuration);
        SessionFactory factory = configuration.buildSessionFactory();
        Session session = factory.openSession();
        write(session);
        session.clear();
        read(session);
        session.close();
        change(factory);
        factory.close();
        Configuration next = configured(arguments[0], NextPerson.class);
        update("updated", next);
        SessionFactory nextFactory = next.buildSessionFactory();
        session = nextFactory.openSession();
        session.beginTransaction();
        say("nicknames", session.createQuery("update Person set nickname = 'Nick' where email = 'p2@example.org'").executeUpdate());
        session.getTransaction().commit();
        for (Object person : session.createQuery("from Person order by id").list()) say("next", person);
        session.close();
        nextFactory.close();
    }
}
