/** The suite of the tools. BOOTSTRAP names the broker, TARGET says what it is, EXPECTED is the folder of transcripts. */
public final class Main {
    public static void main(String[] args) {
        Tools tools = new Tools();
        new Administration(tools).register();
        new Unserved(tools).register();
        new Traffic(tools).register();
        tools.end();
    }
}
