// Package config reads labelstream's settings from the environment.
package config

import (
	"time"

	promconfig "github.com/prometheus/common/config"
)

// Config is every setting; its tags are where defaults, descriptions and
// accepted values are written down. Load makes one that is valid.
type Config struct {
	// Labels and Annotations share a type, but not their defaults; so they are
	// read through labelSource and annotationSource.
	Labels      LabelSource `ignored:"true"`
	Annotations LabelSource `ignored:"true"`

	// Namespaces are the ones to list, each by itself. Empty means one list of
	// the whole cluster.
	Namespaces List `split_words:"true" desc:"namespaces to read, each listed by itself; all where empty" accepts:"a list of namespace names"`
	// NamespacesExclude names the namespaces whose objects are no records.
	NamespacesExclude List `split_words:"true" desc:"namespaces whose objects are left out" accepts:"a list of namespace names"`

	Series
	Delivery

	// OnceTimeout bounds a run with Once.
	OnceTimeout time.Duration `split_words:"true" default:"1h" desc:"how long a run with --once may take" accepts:"a duration from 1s to 168h"`
	// PageSize is how many objects the API server is asked for at most.
	PageSize int `split_words:"true" default:"500" desc:"objects in one page of a list, at most" accepts:"a whole number from 1 to 10000"`
	// Changes is what tells of changes between two lists.
	Changes Changes `split_words:"true" default:"watch" desc:"what tells the daemon of changes: watches, the admission webhook, or nothing but the resync" accepts:"watch, webhook or none"`
	// ResyncInterval is how often a daemon sends all again; 0 means never.
	ResyncInterval time.Duration `split_words:"true" default:"3h" desc:"how often all is read and sent again, up to a tenth sooner; 0 for never, 4m where the receiver is Prometheus and series must not go stale" accepts:"0, or a duration from 1s to 168h"`
	Leader
	Webhook
	// ShutdownTimeout is how long what is held may take to be sent after a
	// signal.
	ShutdownTimeout time.Duration `split_words:"true" default:"20s" desc:"how long records that are held may take to be sent after a signal to end" accepts:"a duration from 0s to 10m"`
	// StatusAddress is where /metrics and the health checks are served, as
	// net.Listen takes it.
	StatusAddress string `split_words:"true" default:":8080" desc:"where /metrics, /healthz and /readyz are served" accepts:"host:port or :port, with port 0 for any free one"`
	// Pprof serves Go's profiles beside the metrics.
	Pprof bool `split_words:"true" default:"false" desc:"serve Go's profiles under /debug/pprof of STATUS_ADDRESS" accepts:"true or false"`
	// LogLevel is error, warn, info or debug.
	LogLevel string `split_words:"true" default:"info" desc:"least severe level that is logged" accepts:"error, warn, info or debug"`
	// LogFormat is text, json, or empty: text on a terminal, json elsewhere.
	LogFormat string `split_words:"true" desc:"how a log line is written; where empty, text on a terminal and json elsewhere" accepts:"text or json"`
}

// Leader are the settings of the election among replicas.
type Leader struct {
	// LeaderElection has one of several replicas read and send.
	LeaderElection bool `split_words:"true" default:"false" desc:"elect which of several replicas reads and sends" accepts:"true or false"`
	// LeaseName is the Lease's that the leader holds, in the pod's namespace.
	LeaseName string `split_words:"true" default:"labelstream" desc:"name of the Lease that the leader holds, in the pod's namespace" accepts:"a name of lower case letters, digits, - and ."`
	// PodNamespace is the pod's, from the downward API.
	PodNamespace string `envconfig:"POD_NAMESPACE" desc:"namespace of this pod; POD_NAMESPACE without the prefix is read too" accepts:"the name of a namespace"`
}

// Webhook are the settings of the admission webhook.
type Webhook struct {
	// WebhookAddress is where it is served, as net.Listen takes it.
	WebhookAddress string `split_words:"true" default:":8443" desc:"where the webhook is served" accepts:"host:port or :port, with port 0 for any free one"`
	// WebhookPath may hold a secret.
	WebhookPath string `split_words:"true" default:"/validate" desc:"path of the webhook; it may hold a part that only the API server knows, and is not logged" accepts:"a path that begins with /, without space, ?, # and %"`
	// WebhookCertDir holds tls.crt and tls.key. Where it is empty, a certificate
	// is made, kept in a Secret, and the API server is told to trust it.
	WebhookCertDir string `split_words:"true" desc:"directory with the webhook's certificate and key, tls.crt and tls.key, read again when they change; where empty, a certificate is made and kept in a Secret" accepts:"the name of a directory with these PEM files"`
	// WebhookName is the name of the Service, of the Secret, and of the
	// ValidatingWebhookConfiguration.
	WebhookName string `split_words:"true" default:"labelstream-webhook" desc:"name of the webhook's Service, of the Secret with its certificate, and of the ValidatingWebhookConfiguration" accepts:"a name of lower case letters, digits and -"`
	// WebhookClientCAFile holds the authorities of those who may call; empty
	// means that anyone may.
	WebhookClientCAFile string `split_words:"true" desc:"file with the authorities of callers' certificates, read again when it changes; where empty, anyone may call" accepts:"the name of a PEM file with certificates"`
}

// Series are the settings of what a series looks like.
type Series struct {
	// MetricPrefix stands before each metric's name; it may be empty.
	MetricPrefix string `split_words:"true" default:"cloudzero_" desc:"what the metric names begin with; may be empty" accepts:"a metric name: letters, digits, _ and :, no digit first"`
	// ExternalLabels are added to the series that have none of that name.
	ExternalLabels Pairs `split_words:"true" desc:"labels added to each series that has none of that name" accepts:"a list of name=value, each name once and without a leading __, no value empty; with NAMES=underscore, names of letters, digits and _, no digit first"`
	// Names is how tag keys become label names.
	Names Names `split_words:"true" default:"raw" desc:"how tag keys become label names: as they are, or with _ for each character outside a-z, A-Z, 0-9 and _" accepts:"raw or underscore"`
	// UnsafeValues is what happens to values with one of <>&'".
	UnsafeValues UnsafeValues `split_words:"true" default:"drop" desc:"what happens to values that hold one of < > & ' \"" accepts:"drop or keep"`
	// ValueMaxBytes is where longer values are cut.
	ValueMaxBytes int `split_words:"true" default:"2048" desc:"bytes after which a value is cut" accepts:"a whole number from 16 to 262144"`
}

// Delivery are the settings of the way to the destination.
type Delivery struct {
	// Destination's URL is nil where a dry run was given none.
	Destination URL `split_words:"true" desc:"remote_write URL to send to; required, except with --dry-run" accepts:"an absolute http or https URL, such as https://collector.example.com/api/v1/write"`
	// BatchSize is how many records a batch holds at most.
	BatchSize int `split_words:"true" default:"500" desc:"records in one batch, at most" accepts:"a whole number from 1 to 10000"`
	// SendInterval is how long a batch waits for more after its first record.
	SendInterval time.Duration `split_words:"true" default:"10s" desc:"how long a batch waits for more records after its first" accepts:"a duration from 10ms to 10m"`
	// SendTimeout bounds one request, its answer included.
	SendTimeout time.Duration `split_words:"true" default:"30s" desc:"how long one request may take" accepts:"a duration from 10ms to 10m"`
	// Senders is how many connections send in parallel.
	Senders int `split_words:"true" default:"1" desc:"connections that send in parallel; records of one object always take the same" accepts:"a whole number from 1 to 64"`
	// Protocol is the version of remote_write.
	Protocol Protocol `split_words:"true" default:"auto" desc:"version of remote_write; auto finds out whether the destination speaks 2.0" accepts:"auto, 1.0 or 2.0"`
	// OnRefused is what happens to a batch that the destination refuses.
	OnRefused OnRefused `split_words:"true" default:"halve" desc:"what happens to a batch that is refused for some bad record: halve it to send the others, or drop all of it" accepts:"halve or drop"`
	Auth
}

// Auth are the settings of authentication and TLS. Either the file says all of
// it, or the others do.
type Auth struct {
	// HTTPClientConfigFile is in Prometheus' own format.
	HTTPClientConfigFile string `split_words:"true" desc:"file in the format of Prometheus' HTTP client configuration: basic_auth, authorization, oauth2, tls_config, http_headers, proxy_url" accepts:"the name of such a YAML file, whose own files are readable, and none of the other settings of authentication and TLS"`
	// BearerTokenFile is read again for each request.
	BearerTokenFile string `split_words:"true" desc:"file with a bearer token, read again for each request" accepts:"the name of a readable file, without BASIC_USERNAME"`
	// BasicUsername and BasicPasswordFile belong together.
	BasicUsername string `split_words:"true" desc:"user of basic authentication" accepts:"a name, together with BASIC_PASSWORD_FILE"`
	// BasicPasswordFile is read again for each request.
	BasicPasswordFile string `split_words:"true" desc:"file with the password of basic authentication, read again for each request" accepts:"the name of a readable file, together with BASIC_USERNAME"`
	// TLSCaFile holds the authorities to trust, in place of the system's.
	TLSCaFile string `split_words:"true" desc:"file with the certificate authorities to trust in place of the system's, read again when it has changed" accepts:"the name of a readable PEM file with certificates"`
	// Headers are added to each request.
	Headers Headers `split_words:"true" desc:"headers added to each request, such as X-Scope-OrgID=tenant" accepts:"a list of name=value, each name once, and none that HTTP or remote_write sets itself"`
	// HTTPClient is what the settings above come to. Its files are read when
	// they are needed.
	HTTPClient *promconfig.HTTPClientConfig `ignored:"true"`
}

// The values of settings that have few.
const (
	NamesRaw         Names        = "raw"
	NamesUnderscore  Names        = "underscore"
	UnsafeValuesDrop UnsafeValues = "drop"
	UnsafeValuesKeep UnsafeValues = "keep"

	ChangesWatch   Changes = "watch"
	ChangesWebhook Changes = "webhook"
	ChangesNone    Changes = "none"

	ProtocolAuto Protocol = "auto"
	Protocol1    Protocol = "1.0"
	Protocol2    Protocol = "2.0"

	OnRefusedHalve OnRefused = "halve"
	OnRefusedDrop  OnRefused = "drop"
)
