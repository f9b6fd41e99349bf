import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Method;
import java.time.Duration;
import java.util.Arrays;
import java.util.Comparator;
import java.util.List;
import java.util.Set;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;

/**
 * Runs every public static method without parameters of the check classes and prints one line each,
 * then "N passed, N failed, N not run". A check fails by throwing.
 */
public final class Suite {
    static final String BOOTSTRAP = System.getenv("OTTLA_BOOTSTRAP");
    /** HOST:PORT of every broker. */
    static final Set<String> BROKERS = Set.of(System.getenv("OTTLA_BROKERS").split(","));
    /** Of the topics that checks make. */
    static final short REPLICAS = (short) BROKERS.size();
    private static final List<Class<?>> CHECKS =
            List.of(Producing.class, Consuming.class, Grouping.class, Topics.class, Configs.class, Describing.class, Restarting.class);
    private static final Duration CHECK_LIMIT = Duration.ofSeconds(60);

    private static int passed;
    private static int failed;
    private static int notRun;

    private Suite() {}

    public static void main(String[] args) {
        String only = System.getenv().getOrDefault("OTTLA_ONLY", "");
        boolean controlled = System.getenv("OTTLA_BROKER_STATE") != null;
        ExecutorService runner = Executors.newCachedThreadPool(task -> {
            Thread thread = new Thread(task, "check");
            thread.setDaemon(true);
            return thread;
        });
        for (Class<?> checks : CHECKS) {
            Method[] methods = checks.getDeclaredMethods();
            Arrays.sort(methods, Comparator.comparing(Method::getName));
            for (Method method : methods) {
                boolean isCheck = (method.getModifiers() & 9) == 9 && method.getParameterCount() == 0;
                String name = checks.getSimpleName() + "." + method.getName();
                if (!isCheck || !name.contains(only)) {
                    continue;
                }
                if (checks == Restarting.class && !controlled) {
                    notRun++;
                } else {
                    run(runner, name, method);
                }
            }
        }
        System.out.printf("%d passed, %d failed, %d not run%n", passed, failed, notRun);
        System.exit(failed == 0 ? 0 : 1);
    }

    private static void run(ExecutorService runner, String name, Method method) {
        long began = System.nanoTime();
        Future<?> check = runner.submit(() -> method.invoke(null));
        try {
            check.get(CHECK_LIMIT.toSeconds(), TimeUnit.SECONDS);
            passed++;
            System.out.printf("ok   %s (%d ms)%n", name, (System.nanoTime() - began) / 1_000_000);
        } catch (ExecutionException e) {
            Throwable cause = e.getCause() instanceof InvocationTargetException ? e.getCause().getCause() : e.getCause();
            fail(name, cause);
        } catch (TimeoutException | InterruptedException e) {
            check.cancel(true);
            fail(name, e);
        }
    }

    private static void fail(String name, Throwable cause) {
        failed++;
        System.out.printf("FAIL %s: %s%n", name, cause);
        for (StackTraceElement frame : cause.getStackTrace()) {
            if (frame.getModuleName() == null && frame.getClassLoaderName() != null && !frame.getClassName().contains(".")) {
                System.out.printf("       at %s%n", frame);
            }
        }
    }

    static void equal(Object expected, Object found) {
        if (!java.util.Objects.equals(expected, found)) {
            throw new AssertionError("expected " + expected + ", found " + found);
        }
    }

    static void check(boolean condition, Object what) {
        if (!condition) {
            throw new AssertionError(String.valueOf(what));
        }
    }

    /** The error that `action` fails with; it is an error if it does not fail with that class. */
    static <E extends Throwable> E fails(Class<E> expected, Callable<?> action) {
        try {
            Object result = action.call();
            throw new AssertionError("expected " + expected.getSimpleName() + ", found the result " + result);
        } catch (AssertionError e) {
            throw e;
        } catch (Throwable e) {
            Throwable cause = e instanceof ExecutionException ? e.getCause() : e;
            if (!expected.isInstance(cause)) {
                throw new AssertionError("expected " + expected.getSimpleName() + ", found " + cause, cause);
            }
            return expected.cast(cause);
        }
    }

    /** Calls `condition` until it is true. */
    static void waitFor(String what, Callable<Boolean> condition) throws Exception {
        long deadline = System.nanoTime() + Duration.ofSeconds(30).toNanos();
        while (!condition.call()) {
            check(System.nanoTime() < deadline, "waited 30 s for " + what);
            Thread.sleep(20);
        }
    }

    static void broker(String command) throws Exception {
        String script = System.getenv("OTTLA_CLIENTS") + "/broker";
        equal(0, new ProcessBuilder("python3", script, command).inheritIO().start().waitFor());
    }

    /** The codecs of a partition's stored batches, which no client shows. */
    static List<String> storedCodecs(String topic, int partition) throws Exception {
        String script = System.getenv("OTTLA_CLIENTS") + "/batches";
        Process process = new ProcessBuilder("python3", script, BOOTSTRAP, topic, "" + partition)
                .redirectError(ProcessBuilder.Redirect.INHERIT).start();
        String printed = new String(process.getInputStream().readAllBytes());
        equal(0, process.waitFor());
        return printed.lines().map(line -> line.replaceAll(".*\"codec\": \"(\\w+)\".*", "$1")).distinct().toList();
    }
}
