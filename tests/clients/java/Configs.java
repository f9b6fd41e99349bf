import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.AlterConfigOp.OpType;
import org.apache.kafka.clients.admin.AlterConfigsOptions;
import org.apache.kafka.clients.admin.Config;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.DescribeConfigsOptions;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.config.ConfigResource.Type;
import org.apache.kafka.common.errors.InvalidConfigurationException;
import org.apache.kafka.common.errors.UnknownTopicOrPartitionException;

/** Admin: describing and altering configs. */
final class Configs {
    private static final Admin ADMIN = Clients.ADMIN;

    private Configs() {}

    private static Config describe(Type type, String name) throws Exception {
        ConfigResource resource = new ConfigResource(type, name);
        DescribeConfigsOptions everything = new DescribeConfigsOptions().includeSynonyms(true).includeDocumentation(true);
        return ADMIN.describeConfigs(List.of(resource), everything).all().get().get(resource);
    }

    private static void alter(String topic, OpType operation, String key, String value) throws Exception {
        alter(topic, operation, key, value, new AlterConfigsOptions());
    }

    private static void alter(String topic, OpType operation, String key, String value, AlterConfigsOptions options)
            throws Exception {
        List<AlterConfigOp> operations = new ArrayList<>();
        operations.add(new AlterConfigOp(new ConfigEntry(key, value), operation));
        ADMIN.incrementalAlterConfigs(Map.of(new ConfigResource(Type.TOPIC, topic), operations), options).all().get();
    }

    private static void waitForValue(String topic, String key, String value) throws Exception {
        Suite.waitFor(key + "=" + value, () -> describe(Type.TOPIC, topic).get(key).value().equals(value));
    }

    public static void ofATopic() throws Exception {
        String topic = Clients.topic("configs", 1, "retention.ms", "5000");
        Config found = describe(Type.TOPIC, topic);
        ConfigEntry retention = found.get("retention.ms");
        Suite.equal("5000", retention.value());
        Suite.equal(ConfigEntry.ConfigSource.DYNAMIC_TOPIC_CONFIG, retention.source());
        Suite.equal(ConfigEntry.ConfigType.LONG, retention.type());
        Suite.check(retention.documentation().length() > 20, retention.documentation());
        List<String> synonyms = retention.synonyms().stream().map(s -> s.name() + "=" + s.value()).toList();
        Suite.equal("retention.ms=5000", synonyms.get(0));
        ConfigEntry policy = found.get("cleanup.policy");
        Suite.equal(ConfigEntry.ConfigSource.DEFAULT_CONFIG, policy.source());
        Suite.equal(ConfigEntry.ConfigType.LIST, policy.type());
        Suite.equal("log.cleanup.policy", policy.synonyms().get(policy.synonyms().size() - 1).name());
        Suite.check(found.entries().size() >= 25, found.entries().size());
        Suite.check(found.entries().stream().noneMatch(e -> e.isReadOnly() || e.isSensitive()), "writable, nothing secret");
    }

    public static void ofTheBroker() throws Exception {
        String node = ADMIN.describeCluster().controller().get().idString();
        Config found = describe(Type.BROKER, node);
        Suite.equal(ConfigEntry.ConfigSource.STATIC_BROKER_CONFIG, found.get("listeners").source());
        Suite.check(found.get("log.dirs").isReadOnly(), "log.dirs is read-only");
        Suite.equal("2", found.get("num.partitions").value());
        Suite.equal("1048588", found.get("message.max.bytes").value());
        Suite.equal(ConfigEntry.ConfigType.INT, found.get("message.max.bytes").type());
    }

    public static void onlyTheNamedKeys() throws Exception {
        String topic = Clients.topic("named", 1);
        Config all = describe(Type.TOPIC, topic);
        Set<String> names = new TreeSet<>();
        all.entries().forEach(entry -> names.add(entry.name()));
        Set<String> expected = Set.of("cleanup.policy", "compression.type", "delete.retention.ms", "file.delete.delay.ms",
                "flush.messages", "flush.ms", "index.interval.bytes", "max.compaction.lag.ms", "max.message.bytes",
                "message.timestamp.after.max.ms", "message.timestamp.before.max.ms", "message.timestamp.type",
                "min.cleanable.dirty.ratio", "min.compaction.lag.ms", "min.insync.replicas", "preallocate",
                "retention.bytes", "retention.ms", "segment.bytes", "segment.index.bytes", "segment.jitter.ms", "segment.ms",
                "unclean.leader.election.enable");
        Set<String> missing = new TreeSet<>(expected);
        missing.removeAll(names);
        Suite.equal(Set.of(), missing);
    }

    public static void setAndDelete() throws Exception {
        String topic = Clients.topic("alter", 1);
        alter(topic, OpType.SET, "retention.ms", "7000");
        waitForValue(topic, "retention.ms", "7000");
        alter(topic, OpType.DELETE, "retention.ms", "");
        waitForValue(topic, "retention.ms", "604800000");
    }

    public static void appendAndSubtract() throws Exception {
        String topic = Clients.topic("lists", 1);
        alter(topic, OpType.APPEND, "cleanup.policy", "compact");
        waitForValue(topic, "cleanup.policy", "delete,compact");
        alter(topic, OpType.SUBTRACT, "cleanup.policy", "delete");
        waitForValue(topic, "cleanup.policy", "compact");
        Suite.fails(InvalidConfigurationException.class, () -> {
            alter(topic, OpType.APPEND, "retention.ms", "5"); // not a list
            return null;
        });
    }

    public static void validateOnly() throws Exception {
        String topic = Clients.topic("dry", 1);
        alter(topic, OpType.SET, "retention.ms", "7000", new AlterConfigsOptions().validateOnly(true));
        Suite.equal("604800000", describe(Type.TOPIC, topic).get("retention.ms").value());
    }

    public static void errors() throws Exception {
        String topic = Clients.topic("refuse", 1);
        for (String[] bad : new String[][] {
            {"retention.ms", "soon"}, {"no.such.key", "1"}, {"cleanup.policy", "burn"},
            {"compression.type", "rar"}, {"max.message.bytes", "-5"}, {"min.insync.replicas", "0"},
        }) {
            Suite.fails(InvalidConfigurationException.class, () -> {
                alter(topic, OpType.SET, bad[0], bad[1]);
                return null;
            });
        }
        Suite.fails(UnknownTopicOrPartitionException.class, () -> {
            alter(topic + "x", OpType.SET, "retention.ms", "1");
            return null;
        });
        Suite.fails(UnknownTopicOrPartitionException.class, () -> describe(Type.TOPIC, topic + "x"));
    }
}
