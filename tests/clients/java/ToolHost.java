import java.io.BufferedReader;
import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.File;
import java.io.IOException;
import java.io.InputStream;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.lang.reflect.InvocationTargetException;
import java.net.MalformedURLException;
import java.net.URL;
import java.net.URLClassLoader;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Base64;
import java.util.List;
import org.apache.kafka.common.utils.Exit;

/**
 * Runs Kafka's command-line tools, one after the other, in one warm JVM: a JVM of its own for each
 * would take ten times as long.
 *
 * <p>Each input line is the class name and arguments, joined by NUL, in Base64; a space; the tool's
 * standard input in Base64. Each output line is the exit code, a space, and what the tool printed
 * (standard output and error together) in Base64.
 */
public final class ToolHost {
    private static final String TOOLS = "org.apache.kafka.tools.";

    private ToolHost() {}

    /** Stands for the end of the process that a tool asked for. */
    private static final class Exited extends RuntimeException {
        private static final long serialVersionUID = 1L;
    }

    /** What the tool asked for first: many catch everything, Exited too, and then exit once more. */
    private static Integer exitCode;
    private static int printedAtExit;
    private static final List<Runnable> shutdownHooks = new ArrayList<>();
    private static ByteArrayOutputStream printed;

    private static void exit(int code) {
        if (exitCode == null) {
            exitCode = code;
            runShutdownHooks();
            printedAtExit = printed.size();
        }
        throw new Exited();
    }

    private static void runShutdownHooks() {
        List<Runnable> hooks = List.copyOf(shutdownHooks);
        shutdownHooks.clear();
        hooks.forEach(Runnable::run);
    }

    public static void main(String[] args) throws Exception {
        PrintStream answers = System.out;
        Exit.setExitProcedure((code, message) -> exit(code));
        Exit.setHaltProcedure((code, message) -> exit(code));
        Exit.setShutdownHookAdder((name, hook) -> shutdownHooks.add(hook));
        BufferedReader lines = new BufferedReader(new InputStreamReader(System.in));
        for (String line = lines.readLine(); line != null; line = lines.readLine()) {
            String[] parts = line.split(" ", -1);
            String[] command = new String(Base64.getDecoder().decode(parts[0])).split("\0", -1);
            InputStream given = new ByteArrayInputStream(Base64.getDecoder().decode(parts[1]));
            printed = new ByteArrayOutputStream();
            exitCode = null;
            int ended = run(command, given);
            runShutdownHooks();
            int code = exitCode != null ? exitCode : ended;
            byte[] output = exitCode != null ? Arrays.copyOf(printed.toByteArray(), printedAtExit) : printed.toByteArray();
            answers.println(code + " " + Base64.getEncoder().encodeToString(output));
            answers.flush();
        }
    }

    private static int run(String[] command, InputStream given) throws Exception {
        PrintStream out = new PrintStream(printed, true);
        System.setIn(given);
        System.setOut(out);
        System.setErr(out);
        try (Fresh tools = new Fresh()) {
            Thread.currentThread().setContextClassLoader(tools);
            String[] arguments = Arrays.copyOfRange(command, 1, command.length);
            tools.loadClass(command[0]).getMethod("main", String[].class).invoke(null, (Object) arguments);
            return 0;
        } catch (InvocationTargetException e) {
            e.getCause().printStackTrace(out);
            return 1;
        }
    }

    /** Loads the tools anew each time, because some count in static fields; the clients stay warm. */
    private static final class Fresh extends URLClassLoader {
        Fresh() throws MalformedURLException {
            super(jars(), ToolHost.class.getClassLoader());
        }

        private static URL[] jars() throws MalformedURLException {
            for (String path : System.getProperty("java.class.path").split(File.pathSeparator)) {
                if (new File(path).getName().startsWith("kafka-tools-4")) {
                    return new URL[] {new File(path).toURI().toURL()};
                }
            }
            throw new IllegalStateException("kafka-tools is not on the class path");
        }

        @Override
        protected Class<?> loadClass(String name, boolean resolve) throws ClassNotFoundException {
            synchronized (getClassLoadingLock(name)) {
                if (!name.startsWith(TOOLS) || name.startsWith(TOOLS + "api.")) {
                    return super.loadClass(name, resolve);
                }
                Class<?> loaded = findLoadedClass(name);
                return loaded != null ? loaded : findClass(name);
            }
        }

        @Override
        public void close() throws IOException {
            Thread.currentThread().setContextClassLoader(ToolHost.class.getClassLoader());
            super.close();
        }
    }
}
