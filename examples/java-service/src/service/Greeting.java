package service;

/** The answers of the server. */
final class Greeting {
    private static final String HELLO = "/hello/";

    static String of(String path) {
        if (path.startsWith(HELLO)) {
            return "Hello, " + path.substring(HELLO.length()) + ".\n";
        }
        return "java-service on Java " + Runtime.version().feature() + "\n";
    }
}
