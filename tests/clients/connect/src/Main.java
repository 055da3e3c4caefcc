/** The suite of Kafka Connect. BOOTSTRAP names the broker, ONLY is a part of a check's name. */
public final class Main {
    public static void main(String[] args) throws Exception {
        Suite suite = new Suite();
        if (!suite.answers()) Runtime.getRuntime().halt(1);
        boolean good;
        try (Workers workers = new Workers(suite)) {
            workers.ready();
            new Pipelines(suite, workers).register();
            good = suite.runAll();
        } catch (Exception | AssertionError e) {
            System.out.println("FAIL workers: " + e);
            good = false;
        }
        System.out.flush();
        Runtime.getRuntime().halt(good ? 0 : 1);
    }
}
