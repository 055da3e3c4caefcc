/** The Java client's suite. BOOTSTRAP names the broker, LEVEL is full or smoke, ONLY is a part of a check's name. */
public final class Main {
    public static void main(String[] args) throws Exception {
        Suite suite = new Suite();
        if (!suite.answers()) Runtime.getRuntime().halt(1);
        new Producing(suite).register();
        new Consuming(suite).register();
        new Groups(suite).register();
        new GroupAdmin(suite).register();
        new Topics(suite).register();
        new Cluster(suite).register();
        new RawProduce(suite).register();
        new RawFetch(suite).register();
        new RawWire(suite).register();
        boolean good = suite.runAll();
        System.out.flush();
        Runtime.getRuntime().halt(good ? 0 : 1);
    }
}
