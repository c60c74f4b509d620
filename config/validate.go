package config

import (
	"cmp"
	"maps"
	"net"
	"regexp"
	"slices"
	"strings"
	"time"
)

const dnsLabel = `[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?`

var (
	metricPrefix  = regexp.MustCompile(`^([a-zA-Z_:][a-zA-Z0-9_:]*)?$`)
	classicLabel  = regexp.MustCompile(`^[a-zA-Z_][a-zA-Z0-9_]*$`)
	namespaceName = regexp.MustCompile(`^` + dnsLabel + `$`)
	leaseName     = regexp.MustCompile(`^` + dnsLabel + `(\.` + dnsLabel + `)*$`)
	webhookPath   = regexp.MustCompile(`^/[!-~]*$`)
	resourceName  = regexp.MustCompile(`^(` + dnsLabel + `(\.` + dnsLabel + `)*|\*(\.` + dnsLabel + `)+)$`)
)

// validate adds what is wrong with values that parsed, and with what they say
// together.
func validate(cfg *Config, dryRun bool, m *mistakes) {
	validateTags("LABELS", &cfg.Labels, m)
	validateTags("ANNOTATIONS", &cfg.Annotations, m)
	validateEnabled(cfg, m)
	validateNamespaces(cfg, m)
	validateSeries(&cfg.Series, m)
	validateDelivery(&cfg.Delivery, dryRun, m)

	checkRange(m, "ONCE_TIMEOUT", cfg.OnceTimeout, time.Second, 168*time.Hour)
	checkRange(m, "PAGE_SIZE", cfg.PageSize, 1, 10000)
	check(m, "RESYNC_INTERVAL", cfg.ResyncInterval == 0 || time.Second <= cfg.ResyncInterval && cfg.ResyncInterval <= 168*time.Hour)
	checkOneOf(m, "CHANGES", cfg.Changes, ChangesWatch, ChangesWebhook, ChangesNone)
	validateLeader(&cfg.Leader, m)
	validateWebhook(&cfg.Webhook, m)
	checkRange(m, "SHUTDOWN_TIMEOUT", cfg.ShutdownTimeout, 0, 10*time.Minute)
	check(m, "STATUS_ADDRESS", isAddress(cfg.StatusAddress))
	checkOneOf(m, "LOG_LEVEL", cfg.LogLevel, "error", "warn", "info", "debug")
	checkOneOf(m, "LOG_FORMAT", cfg.LogFormat, "text", "json", "")
}

// validateEnabled leaves out what rests on a default that stands in for a value
// that did not parse.
func validateEnabled(cfg *Config, m *mistakes) {
	labels, annotations := prefix+"_LABELS_ENABLED", prefix+"_ANNOTATIONS_ENABLED"
	if cfg.Labels.Enabled || cfg.Annotations.Enabled || m.wrong[labels] || m.wrong[annotations] {
		return
	}
	m.addf("%s and %s are both false, so nothing would be sent; want one of them true", labels, annotations)
}

func validateTags(topic string, tags *LabelSource, m *mistakes) {
	checkList(m, topic+"_RESOURCES", tags.Resources, resourceName)
	if !tags.Enabled {
		return
	}
	// Nothing is more likely meant for everything than for nothing: refuse it.
	if len(tags.Filters) == 0 {
		m.addValue(topic+"_FILTERS", "is empty")
	}
	if len(tags.Resources) == 0 {
		m.addValue(topic+"_RESOURCES", "is empty")
	}
}

func validateNamespaces(cfg *Config, m *mistakes) {
	checkList(m, "NAMESPACES", cfg.Namespaces, namespaceName)
	checkList(m, "NAMESPACES_EXCLUDE", cfg.NamespacesExclude, namespaceName)
	for _, name := range cfg.Namespaces {
		if slices.Contains(cfg.NamespacesExclude, name) {
			m.addf("%s_NAMESPACES and %[1]s_NAMESPACES_EXCLUDE both name %q; want it in one of them", prefix, name)
		}
	}
}

func validateSeries(s *Series, m *mistakes) {
	check(m, "METRIC_PREFIX", metricPrefix.MatchString(s.MetricPrefix))
	checkOneOf(m, "NAMES", s.Names, NamesRaw, NamesUnderscore)
	checkOneOf(m, "UNSAFE_VALUES", s.UnsafeValues, UnsafeValuesDrop, UnsafeValuesKeep)
	checkRange(m, "VALUE_MAX_BYTES", s.ValueMaxBytes, 16, 262144)
	if s.Names != NamesUnderscore {
		return
	}
	for _, name := range slices.Sorted(maps.Keys(s.ExternalLabels)) {
		if !classicLabel.MatchString(name) {
			m.addItem("EXTERNAL_LABELS", name, "needs NAMES=raw")
		}
	}
}

func validateDelivery(d *Delivery, dryRun bool, m *mistakes) {
	if d.Destination.URL == nil && !dryRun {
		m.addMissing("DESTINATION")
	}
	checkRange(m, "BATCH_SIZE", d.BatchSize, 1, 10000)
	checkRange(m, "SEND_INTERVAL", d.SendInterval, 10*time.Millisecond, 10*time.Minute)
	checkRange(m, "SEND_TIMEOUT", d.SendTimeout, 10*time.Millisecond, 10*time.Minute)
	checkRange(m, "SENDERS", d.Senders, 1, 64)
	checkOneOf(m, "PROTOCOL", d.Protocol, ProtocolAuto, Protocol1, Protocol2)
	checkOneOf(m, "ON_REFUSED", d.OnRefused, OnRefusedHalve, OnRefusedDrop)
	validateAuth(d, m)
}

func validateLeader(l *Leader, m *mistakes) {
	check(m, "LEASE_NAME", leaseName.MatchString(l.LeaseName))
}

func validateWebhook(w *Webhook, m *mistakes) {
	check(m, "WEBHOOK_ADDRESS", isAddress(w.WebhookAddress))
	if !webhookPath.MatchString(w.WebhookPath) || strings.ContainsAny(w.WebhookPath, "?#%") {
		m.add(prefix+"_WEBHOOK_PATH", wrongValue{hidden: true, reason: "no such path, and not shown as it may hold a secret"})
	}
	check(m, "WEBHOOK_NAME", namespaceName.MatchString(w.WebhookName))
}

func check(m *mistakes, name string, ok bool) {
	if !ok {
		m.addValue(name, "")
	}
}

func checkRange[T cmp.Ordered](m *mistakes, name string, value, least, most T) {
	check(m, name, least <= value && value <= most)
}

func checkOneOf[T comparable](m *mistakes, name string, value T, accepted ...T) {
	check(m, name, slices.Contains(accepted, value))
}

// checkList adds each item that is not of the shape, and each that is there
// twice: it would be read twice.
func checkList(m *mistakes, name string, list List, shape *regexp.Regexp) {
	for i, item := range list {
		switch {
		case !shape.MatchString(item):
			m.addItem(name, item, "")
		case slices.Contains(list[:i], item):
			m.addItem(name, item, "is there twice")
		}
	}
}

func isAddress(address string) bool {
	_, port, err := net.SplitHostPort(address)
	return err == nil && isPort(port)
}
