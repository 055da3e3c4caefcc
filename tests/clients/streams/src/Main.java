/** The suite of Kafka Streams. BOOTSTRAP names the broker, TARGET says what it is, ONLY is a part of a check's name. */
public final class Main {
    public static void main(String[] args) throws Exception {
        Suite suite = new Suite();
        if (!suite.answers()) Runtime.getRuntime().halt(1);
        new Results(suite).register();
        new Instances(suite).register();
        new Refusals(suite).register();
        boolean good = suite.runAll();
        System.out.flush();
        Runtime.getRuntime().halt(good ? 0 : 1);
    }
}
