// Logs in by pgjdbc and asks: java LogIn.java URL SQL [property=value …]
//
// Each line of SQL is a statement of its own. Prints the first row of the last, its columns between bars; or the SQLSTATE and the
// message of why there is none.

import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.util.Properties;

public class LogIn {
    public static void main(String[] arguments) {
        Properties properties = new Properties();
        for (int i = 2; i < arguments.length; i++) {
            String[] pair = arguments[i].split("=", 2);
            properties.setProperty(pair[0], pair[1]);
        }
        String[] lines = arguments[1].split("\n");
        try (Connection connection = DriverManager.getConnection(arguments[0], properties)) {
            for (int i = 0; i < lines.length - 1; i++) {
                connection.createStatement().execute(lines[i]);
            }
            ResultSet result = connection.createStatement().executeQuery(lines[lines.length - 1]);
            result.next();
            StringBuilder row = new StringBuilder();
            for (int i = 1; i <= result.getMetaData().getColumnCount(); i++) {
                row.append(i > 1 ? "|" : "").append(result.getString(i));
            }
            System.out.println(row);
        } catch (SQLException error) {
            System.out.println(error.getSQLState() + ": " + error.getMessage());
        }
    }
}
