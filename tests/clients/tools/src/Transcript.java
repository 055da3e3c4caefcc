import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.stream.Collectors;

/**
 * What some calls of tools printed, with everything that differs from run to run replaced by a word, and what it should be.
 * A call is its command line, its exit code, and its lines of standard output and, after "! ", of standard error.
 */
final class Transcript {
    private static final Path EXPECTED = Path.of(System.getenv("EXPECTED"));
    private static final boolean KAFKA = "kafka".equals(System.getenv("TARGET"));

    private final Tools tools;
    private final String name;
    private final List<String> lines = new ArrayList<>();
    /** Regular expressions and what their matches become, in this order. */
    private final Map<String, String> masks = new LinkedHashMap<>();

    Transcript(Tools tools, String name) {
        this.tools = tools;
        this.name = name;
        masks.put("\\b" + java.util.regex.Pattern.quote(tools.bootstrap), "HOST:PORT");
        masks.put("-" + tools.name("").substring(1), "");
        masks.put("(/[^/\" ]+)*/tools\\d+\\.json", "FILE.json");
    }

    /** Replaces all matches by this word in the calls that follow. */
    Transcript mask(String regex, String word) {
        masks.put(regex, word);
        return this;
    }

    /** Calls a tool, as the script of this name does, with --bootstrap-server put behind the first `leading` arguments. */
    Tools.Result call(String script, String tool, int leading, String... args) throws Exception {
        List<String> all = new ArrayList<>(List.of(args));
        all.addAll(leading, List.of("--bootstrap-server", tools.bootstrap));
        Tools.Result result = tools.call("", tool, all.toArray(String[]::new));
        List<String> shown = new ArrayList<>();
        shown.add("$ " + script + " " + String.join(" ", args).stripTrailing());
        result.out().lines().filter(Transcript::says).forEach(shown::add);
        result.err().lines().filter(Transcript::says).forEach(each -> shown.add("! " + each));
        if (result.code() != 0) shown.add("exit code " + result.code());
        add(shown);
        return result;
    }

    /** Not an empty line, the frame of a stack trace, the logger's complaint, or the exit that Tools catches. */
    private static boolean says(String line) {
        return !line.isBlank() && !line.startsWith("\tat ") && !line.startsWith("\t... ") && !line.startsWith("SLF4J")
                && !line.endsWith("exit");
    }

    /** Adds lines that a check made itself. */
    void add(List<String> more) {
        for (String line : more) {
            String masked = line.stripTrailing();
            for (Map.Entry<String, String> mask : masks.entrySet()) masked = masked.replaceAll(mask.getKey(), mask.getValue());
            lines.add(masked);
        }
    }

    /** Drops all lines so far but those that match. */
    void keep(String regex) {
        lines.removeIf(each -> !each.matches(regex));
    }

    private Path file() {
        Path own = EXPECTED.resolve(name + ".alluvium.txt");
        return !KAFKA && Files.exists(own) ? own : EXPECTED.resolve(name + ".txt");
    }

    /** What the file says, without the comments at its top. */
    static List<String> read(Path file) throws Exception {
        return Files.readAllLines(file).stream().dropWhile(each -> each.startsWith("# ")).collect(Collectors.toList());
    }

    /** Compares all lines with the file. */
    void compare() throws Exception {
        if (System.getenv("UPDATE") != null) {
            update();
            return;
        }
        List<String> expected = read(file());
        for (int i = 0; i < Math.max(expected.size(), lines.size()); i++) {
            String wanted = i < expected.size() ? expected.get(i) : "nothing more";
            String found = i < lines.size() ? lines.get(i) : "nothing more";
            if (wanted.equals(found)) continue;
            throw new AssertionError("line " + (i + 1) + " of " + file().getFileName() + " is <" + wanted + ">, but here is <" + found + ">, after "
                    + lines.subList(Math.max(0, i - 3), Math.min(i, lines.size())));
        }
    }

    /** Writes Kafka's file, or Alluvium's when it differs from Kafka's; the reason must be written by hand. */
    private void update() throws Exception {
        Path kafka = EXPECTED.resolve(name + ".txt");
        Path own = EXPECTED.resolve(name + ".alluvium.txt");
        if (KAFKA) {
            Files.write(kafka, lines);
        } else if (read(kafka).equals(lines)) {
            Files.deleteIfExists(own);
        } else {
            List<String> all = new ArrayList<>();
            if (Files.exists(own)) Files.readAllLines(own).stream().takeWhile(each -> each.startsWith("# ")).forEach(all::add);
            if (all.isEmpty()) all.add("# WHY?");
            all.addAll(lines);
            Files.write(own, all);
        }
    }

    List<String> lines() {
        return lines;
    }

    static boolean kafka() {
        return KAFKA;
    }

    /** The transcript with Apache Kafka. */
    List<String> ofKafka() throws Exception {
        return read(EXPECTED.resolve(name + ".txt"));
    }
}
