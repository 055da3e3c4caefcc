import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.InputStream;
import java.io.PrintStream;
import java.lang.reflect.InvocationTargetException;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import java.util.Objects;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import org.apache.kafka.common.utils.Exit;

/** Calls the main methods of Kafka's command line tools in this JVM, with their streams and exit codes caught. */
final class Tools {
    private static final int TOOL_SECONDS = 240;
    // A tool may wait a minute for a broker that does not answer; after so many failures the rest is not worth it.
    private static final int FAILURES_IN_A_ROW = 4;
    private static final PrintStream STDOUT = System.out;
    private static final PrintStream STDERR = System.err;
    private static final InputStream STDIN = System.in;

    interface Body {
        void run() throws Exception;
    }

    /** What a tool would end the process with. */
    private static final class Exited extends Error {
        Exited() {
            super("exit", null, false, false);
        }
    }

    record Result(String tool, int code, String out, String err) {
        /** The tool ended with 0. */
        Result good() {
            return with(code == 0, "exit code " + code);
        }

        /** The tool ended with another code than 0, and says this. */
        Result bad(String says) {
            return with(code != 0, "exit code 0, but it should fail").says(says);
        }

        Result says(String text) {
            return with((out + err).contains(text), "no \"" + text + "\"");
        }

        Result matches(String regex) {
            boolean found = java.util.regex.Pattern.compile(regex, java.util.regex.Pattern.MULTILINE).matcher(out).find();
            return with(found, "nothing matches " + regex);
        }

        Result lacks(String text) {
            return with(!(out + err).contains(text), "there is \"" + text + "\"");
        }

        /** Standard output is exactly these lines. */
        Result lines(String... expected) {
            return with(out.lines().toList().equals(List.of(expected)), "expected the lines " + List.of(expected));
        }

        private Result with(boolean holds, String otherwise) {
            if (!holds) {
                throw new AssertionError(tool + ": " + otherwise + "; stdout: " + shorten(out) + "; stderr: " + shorten(err));
            }
            return this;
        }

        private static String shorten(String text) {
            return text.length() <= 1500 ? text : text.substring(0, 1500) + "…";
        }
    }

    final String bootstrap = Objects.requireNonNull(System.getenv("BOOTSTRAP"), "BOOTSTRAP is not set");
    private final boolean full = !"smoke".equals(System.getenv("LEVEL"));
    private final String only = System.getenv().getOrDefault("ONLY", "");
    private final String run = Long.toString(System.nanoTime(), 36);
    private final ExecutorService runner = Executors.newCachedThreadPool(body -> {
        Thread thread = new Thread(body);
        thread.setDaemon(true);
        return thread;
    });
    private int good;
    private int bad;
    private int inARow;

    String name(String stem) {
        return stem + "-" + run;
    }

    void smoke(String name, Body body) {
        if (!name.contains(only)) return;
        if (inARow >= FAILURES_IN_A_ROW) {
            bad++;
            STDOUT.println("FAIL " + name + ": not tried, " + FAILURES_IN_A_ROW + " before it failed");
            return;
        }
        long begin = System.nanoTime();
        try {
            body.run();
            good++;
            inARow = 0;
            STDOUT.println("ok " + name);
        } catch (Throwable e) {
            bad++;
            inARow++;
            STDOUT.println("FAIL " + name + ": " + String.valueOf(e.getMessage()).replace('\n', '|') + place(e));
        }
        if (System.getenv("TIMES") != null) STDERR.println(name + " " + (System.nanoTime() - begin) / 1_000_000 + " ms");
    }

    void full(String name, Body body) {
        if (full) smoke(name, body);
    }

    private static String place(Throwable e) {
        for (StackTraceElement frame : e.getStackTrace()) {
            boolean ours = !frame.getClassName().contains(".") && !frame.getClassName().startsWith("Tools");
            if (ours) return " (" + frame.getFileName() + ":" + frame.getLineNumber() + ")";
        }
        return "";
    }

    /** Prints the sum and ends the process. */
    void end() {
        STDOUT.flush();
        Runtime.getRuntime().halt(bad == 0 && good > 0 ? 0 : 1);
    }

    /** Runs a tool against the broker. */
    Result run(String tool, String... args) throws Exception {
        return feed("", tool, args);
    }

    /** Runs a tool against the broker with this standard input. */
    Result feed(String input, String tool, String... args) throws Exception {
        List<String> all = new ArrayList<>(List.of("--bootstrap-server", bootstrap));
        all.addAll(List.of(args));
        return call(input, tool, all.toArray(String[]::new));
    }

    /** Calls a main method with exactly these arguments. */
    Result call(String input, String tool, String... args) throws Exception {
        ByteArrayOutputStream out = new ByteArrayOutputStream();
        ByteArrayOutputStream err = new ByteArrayOutputStream();
        // A tool that calls exit in a try block meets its own catch clause, which may call exit again: the first counts.
        int[] code = {-1};
        Exit.Procedure exit = (status, message) -> {
            if (code[0] < 0) code[0] = status;
            throw new Exited();
        };
        Exit.setExitProcedure(exit);
        Exit.setHaltProcedure(exit);
        // The producer flushes in its hook.
        List<Runnable> hooks = java.util.Collections.synchronizedList(new ArrayList<>());
        Exit.setShutdownHookAdder((name, hook) -> hooks.add(hook));
        System.setIn(new ByteArrayInputStream(input.getBytes(StandardCharsets.UTF_8)));
        System.setOut(new PrintStream(out, true, StandardCharsets.UTF_8));
        System.setErr(new PrintStream(err, true, StandardCharsets.UTF_8));
        try {
            Future<?> running = runner.submit(() -> {
                try {
                    return Class.forName(tool).getMethod("main", String[].class).invoke(null, (Object) args);
                } finally {
                    hooks.forEach(Runnable::run);
                }
            });
            running.get(TOOL_SECONDS, TimeUnit.SECONDS);
        } catch (java.util.concurrent.TimeoutException e) {
            throw new AssertionError(tool + " does not end; stdout: " + out + "; stderr: " + err);
        } catch (java.util.concurrent.ExecutionException e) {
            Throwable cause = e.getCause() instanceof InvocationTargetException ? e.getCause().getCause() : e.getCause();
            if (!(cause instanceof Exited)) {
                if (code[0] < 0) code[0] = 1;
                cause.printStackTrace(System.err);
            }
        } finally {
            System.out.flush();
            System.err.flush();
            System.setIn(STDIN);
            System.setOut(STDOUT);
            System.setErr(STDERR);
        }
        String shortName = tool.substring(tool.lastIndexOf('.') + 1) + " " + String.join(" ", args);
        return new Result(shortName, Math.max(code[0], 0), out.toString(StandardCharsets.UTF_8),
                err.toString(StandardCharsets.UTF_8));
    }
}
