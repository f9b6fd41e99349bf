import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import org.opensearch.Version;
import org.opensearch.common.settings.Settings;
import org.opensearch.env.Environment;
import org.opensearch.node.InternalSettingsPreparer;
import org.opensearch.node.Node;
import org.opensearch.plugins.PluginInfo;
import org.opensearch.transport.Netty4ModulePlugin;

/** One node of OpenSearch with HTTP: folder, HTTP port, transport port, then settings as key=value. */
class OpenSearchServer extends Node {
    OpenSearchServer(Environment environment) {
        super(environment, List.of(new PluginInfo("transport-netty4", "HTTP", "3", Version.CURRENT, "21",
            Netty4ModulePlugin.class.getName(), "", List.of(), false)), true);
    }

    public static void main(String[] args) throws Exception {
        Settings.Builder settings = Settings.builder()
            .put("path.home", args[0])
            .put("node.name", "node")
            .put("cluster.name", "test")
            .put("network.host", "127.0.0.1")
            .put("http.port", args[1])
            .put("transport.port", args[2])
            .put("discovery.type", "single-node")
            .putList("node.roles", "cluster_manager", "data", "ingest")
            .put("cluster.routing.allocation.disk.threshold_enabled", false);
        for (int i = 3; i < args.length; i++) {
            String[] setting = args[i].split("=", 2);
            settings.put(setting[0], setting[1]);
        }
        Path config = Path.of(args[0], "config");
        Environment environment = InternalSettingsPreparer.prepareEnvironment(settings.build(), Map.of(), config, () -> "node");
        Node node = new OpenSearchServer(environment);
        node.start();
        System.out.println("started");
        Thread.currentThread().join();
    }
}
