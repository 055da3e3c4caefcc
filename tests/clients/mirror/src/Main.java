/** The suite of MirrorMaker 2. BOOTSTRAP and PEER_BOOTSTRAP name the clusters, ONLY is a part of a check's name. */
public final class Main {
    public static void main(String[] args) throws Exception {
        Suite suite = new Suite();
        if (!suite.answers()) Runtime.getRuntime().halt(1);
        boolean good;
        try (Mirror mirror = new Mirror(suite)) {
            mirror.start();
            new Mirrored(suite, mirror).register();
            good = suite.runAll();
        } catch (Exception | AssertionError e) {
            System.out.println("FAIL mirror_starts: " + e);
            good = false;
        }
        System.out.flush();
        Runtime.getRuntime().halt(good ? 0 : 1);
    }
}
