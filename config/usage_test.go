package config

import (
	"errors"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestUsage(t *testing.T) {
	var out strings.Builder
	if err := Usage(&out); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, line := range strings.Split(out.String(), "\n") {
		if strings.HasPrefix(line, prefix) {
			got = append(got, line)
		}
	}
	want := []string{
		"LABELSTREAM_LABELS_ENABLED (default: true)",
		"LABELSTREAM_LABELS_FILTERS (default: .*)",
		"LABELSTREAM_LABELS_EXCLUDE",
		"LABELSTREAM_LABELS_RESOURCES (default: pods,namespaces)",
		"LABELSTREAM_ANNOTATIONS_ENABLED (default: false)",
		"LABELSTREAM_ANNOTATIONS_FILTERS (default: .*)",
		"LABELSTREAM_ANNOTATIONS_EXCLUDE (default: last-applied-configuration$)",
		"LABELSTREAM_ANNOTATIONS_RESOURCES (default: pods,namespaces)",
		"LABELSTREAM_NAMESPACES",
		"LABELSTREAM_NAMESPACES_EXCLUDE",
		"LABELSTREAM_METRIC_PREFIX (default: cloudzero_)",
		"LABELSTREAM_EXTERNAL_LABELS",
		"LABELSTREAM_NAMES (default: raw)",
		"LABELSTREAM_UNSAFE_VALUES (default: drop)",
		"LABELSTREAM_VALUE_MAX_BYTES (default: 2048)",
		"LABELSTREAM_DESTINATION",
		"LABELSTREAM_BATCH_SIZE (default: 500)",
		"LABELSTREAM_SEND_INTERVAL (default: 10s)",
		"LABELSTREAM_SEND_TIMEOUT (default: 30s)",
		"LABELSTREAM_MAX_BYTES_PER_SEND (default: 1MiB)",
		"LABELSTREAM_SENDERS (default: 2)",
		"LABELSTREAM_PROTOCOL (default: auto)",
		"LABELSTREAM_ON_REFUSED (default: halve)",
		"LABELSTREAM_HTTP_CLIENT_CONFIG_FILE",
		"LABELSTREAM_BEARER_TOKEN_FILE",
		"LABELSTREAM_BASIC_USERNAME",
		"LABELSTREAM_BASIC_PASSWORD_FILE",
		"LABELSTREAM_TLS_CA_FILE",
		"LABELSTREAM_HEADERS",
		"LABELSTREAM_ONCE (default: false)",
		"LABELSTREAM_ONCE_TIMEOUT (default: 1h)",
		"LABELSTREAM_PAGE_SIZE (default: 500)",
		"LABELSTREAM_WATCH_ENABLED (default: true)",
		"LABELSTREAM_RESYNC_INTERVAL (default: 3h)",
		"LABELSTREAM_LEADER_ELECTION (default: false)",
		"LABELSTREAM_LEASE_NAME (default: labelstream)",
		"LABELSTREAM_LEASE_NAMESPACE",
		"LABELSTREAM_LEASE_DURATION (default: 15s)",
		"LABELSTREAM_RENEW_DEADLINE (default: 10s)",
		"LABELSTREAM_RETRY_PERIOD (default: 2s)",
		"LABELSTREAM_POD_NAME",
		"LABELSTREAM_POD_NAMESPACE",
		"LABELSTREAM_WEBHOOK_ENABLED (default: true)",
		"LABELSTREAM_WEBHOOK_ADDRESS (default: :8443)",
		"LABELSTREAM_WEBHOOK_PATH (default: /validate)",
		"LABELSTREAM_WEBHOOK_RECONNECT (default: 1000)",
		"LABELSTREAM_WEBHOOK_CERT_FILE",
		"LABELSTREAM_WEBHOOK_KEY_FILE",
		"LABELSTREAM_WEBHOOK_SELF_SIGNED (default: false)",
		"LABELSTREAM_WEBHOOK_SECRET (default: labelstream-webhook)",
		"LABELSTREAM_WEBHOOK_SERVICE (default: labelstream-webhook)",
		"LABELSTREAM_WEBHOOK_CONFIGURATION (default: labelstream)",
		"LABELSTREAM_WEBHOOK_CLIENT_CA_FILE",
		"LABELSTREAM_SHUTDOWN_TIMEOUT (default: 20s)",
		"LABELSTREAM_STATUS_ADDRESS (default: :8080)",
		"LABELSTREAM_PPROF (default: false)",
		"LABELSTREAM_LOG_LEVEL (default: info)",
		"LABELSTREAM_LOG_FORMAT",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error("-want +got\n" + d)
	}
	const destination = `
LABELSTREAM_DESTINATION
    remote_write URL to send to; required, except with --dry-run
    accepted: an absolute http or https URL, such as https://collector.example.com/api/v1/write
`
	if !strings.Contains(out.String(), destination) {
		t.Errorf("usage says of the destination something else than%s", destination)
	}
	if missing := regexp.MustCompile(`(?m)^    (accepted: )?$`).FindString(out.String()); missing != "" {
		t.Error("a setting has no description, or accepts nothing")
	}
}

type fullDisk struct{}

var errDisk = errors.New("no space left on device")

func (fullDisk) Write([]byte) (int, error) { return 0, errDisk }

func TestUsageFails(t *testing.T) {
	if err := Usage(fullDisk{}); !errors.Is(err, errDisk) {
		t.Errorf("Usage = %v, want %v", err, errDisk)
	}
}
