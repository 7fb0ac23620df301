# Adds Spanledger's processor and connector to a manifest of the Collector builder, that of the contrib distribution for
# example: sed -f with-component.sed manifest.yaml. The path is that of this repository's Go module.
/^dist:/,/^$/ {
  s|^  name:.*|  name: otelcol-spanledger|
  s|^  output_path:.*|  output_path: ./otelcol-spanledger|
}
/^processors:/ a\
  - gomod: github.com/spanledger/spanledger/processor/collector v0.1.0\
    import: github.com/spanledger/spanledger/processor/collector/spanledgerprocessor\
    path: ../../processor/collector
/^connectors:/ a\
  - gomod: github.com/spanledger/spanledger/processor/collector v0.1.0\
    import: github.com/spanledger/spanledger/processor/collector/spanledgerconnector\
    path: ../../processor/collector
