// SPDX-License-Identifier: Apache-2.0

// Package config reads labelstream's settings from the environment.
package config

import (
	"time"

	promconfig "github.com/prometheus/common/config"
)

// Config is every setting. Load makes one that is valid. The tags of a field are
// all that is written down about a setting:
//
//   - default is its value where the variable is not set, desc what it is for;
//   - min and max bound a number or a duration, "or" is one value beside them;
//   - oneof lists the accepted texts, match names a shape that the text, or each
//     item of a list, must have;
//   - also is added to what min, max, oneof and match say to a user, and accepts
//     is said instead of it;
//   - secret values are not shown.
type Config struct {
	// Labels and Annotations share a type, but not their defaults: they are read
	// through labelSource and annotationSource.
	Labels      LabelSource `ignored:"true"`
	Annotations LabelSource `ignored:"true"`

	Namespaces        List `split_words:"true" desc:"namespaces to read, each listed by itself, more than 100 by one list of all namespaces; all where empty" match:"namespace" accepts:"a list of namespace names"`
	NamespacesExclude List `split_words:"true" desc:"namespaces whose objects are left out" match:"namespace" accepts:"a list of namespace names"`

	LabelSelector     Selector `split_words:"true" desc:"labels of the objects to read, of all kinds, as kubectl's --selector has them; the API server selects" accepts:"a label selector, such as team in (a,b),!test"`
	NamespaceSelector Selector `split_words:"true" desc:"labels of the namespaces whose objects are read, and which are read themselves" accepts:"a label selector, such as tenant!=internal"`

	OwnerLabels bool `split_words:"true" default:"false" desc:"add the labels owner_kind and owner_name, the controller of each object, and workload_kind and workload_name, the top of its chain of owners; with SERIES=kube-state-metrics, kube_pod_owner and its like in place of the first two"`

	InheritNamespaceLabels Patterns `split_words:"true" desc:"label keys that an object takes from its Namespace where it has none of that key itself: those that any of the patterns matches somewhere"`
	InheritedLabel         string   `split_words:"true" desc:"key of one more label that names the keys which an object has inherited, with commas between them; none where empty" match:"key"`
	Rename                 Renames  `split_words:"true" desc:"keys of labels and annotations that are given another key before anything else is done with them; of several that meet in one, the one that is spelled so counts, then the first of the list" accepts:"a list of key=key, each key renamed once"`
	LowercaseValues        Patterns `split_words:"true" desc:"label and annotation keys, after RENAME, whose values are sent in lower case: those that any of the patterns matches somewhere"`

	// Preset's values, by the setting's name, are in PresetValues.
	Preset       Preset         `split_words:"true" default:"cloudzero" desc:"the receiver whose limits and habits the defaults of other settings follow; what is set wins over them" oneof:"cloudzero,prometheus,mimir,victoriametrics"`
	PresetValues map[string]any `ignored:"true"`
	// Changed are the settings that are given another value than their default.
	Changed []Setting `ignored:"true"`

	Appearance
	Delivery

	OnceTimeout    time.Duration `split_words:"true" default:"1h" desc:"how long a run with --once may take" min:"1s" max:"168h"`
	PageSize       int           `split_words:"true" default:"500" desc:"objects in one page of a list, at most" min:"1" max:"10000"`
	Changes        Changes       `split_words:"true" default:"watch" desc:"what tells the daemon of changes: watches, the admission webhook, or nothing but the resync" oneof:"watch,webhook,none"`
	ResyncInterval time.Duration `split_words:"true" default:"3h" desc:"how often all is read and sent again, up to a tenth sooner; 0 for never" min:"1s" max:"168h" or:"0"`

	Leader
	Webhook

	ShutdownTimeout time.Duration `split_words:"true" default:"20s" desc:"how long records that are held may take to be sent after a signal to end" min:"0s" max:"10m"`
	StatusAddress   string        `split_words:"true" default:":8080" desc:"where the status page, /metrics, /healthz and /readyz are served" match:"address"`
	Pprof           bool          `split_words:"true" default:"false" desc:"serve Go's profiles under /debug/pprof of STATUS_ADDRESS"`
	LogLevel        string        `split_words:"true" default:"info" desc:"least severe level that is logged" oneof:"error,warn,info,debug"`
	LogFormat       string        `split_words:"true" desc:"how a log line is written; where empty, text on a terminal and json elsewhere" oneof:"text,json"`
}

// Appearance are the settings of what a series looks like.
type Appearance struct {
	Series         Form         `split_words:"true" default:"cloudzero" desc:"form of the series: metrics and labels as the CloudZero collector takes them, or as kube-state-metrics has them in kube_pod_labels and its like" oneof:"cloudzero,kube-state-metrics"`
	MetricPrefix   string       `split_words:"true" default:"cloudzero_" desc:"what the metric names begin with; may be empty; with SERIES=kube-state-metrics it is kube_" match:"metric"`
	ExternalLabels Pairs        `split_words:"true" desc:"labels added to each series that has none of that name" accepts:"a list of name=value, each name once and without a leading __, no value empty; with NAMES=underscore, names of letters, digits and _, no digit first"`
	Names          Names        `split_words:"true" default:"raw" desc:"how the keys of labels and annotations become label names: as they are, or with _ for each character outside a-z, A-Z, 0-9 and _; with SERIES=kube-state-metrics as it does" oneof:"raw,underscore"`
	UnsafeValues   UnsafeValues `split_words:"true" default:"drop" desc:"what happens to values that hold one of < > & ' \"" oneof:"drop,keep"`
	ValueMaxBytes  int          `split_words:"true" default:"2048" desc:"bytes after which a value is cut" min:"16" max:"262144"`

	MaxLabelsPerSeries int `split_words:"true" default:"0" desc:"labels of a series at most, the metric's name among them; those go first that match the last of the filters; 0 for any number" min:"8" max:"10000" or:"0"`
	LabelNameMaxBytes  int `split_words:"true" default:"0" desc:"bytes of a label's name at most, longer ones are left out; 0 for any number" min:"16" max:"10000" or:"0"`
	MaxKeys            int `split_words:"true" default:"300" desc:"distinct keys of labels and annotations above which there is a warning, since the receiver keeps no more (CloudZero: of all clusters together); 0 for any number" min:"1" max:"100000" or:"0"`
}

// Delivery are the settings of the way to the destination.
type Delivery struct {
	// Destination's URL is nil where a dry run was given none.
	Destination  URL           `split_words:"true" desc:"remote_write URL to send to; required, except with --dry-run" accepts:"an absolute http or https URL, such as https://collector.example.com/api/v1/write"`
	BatchSize    int           `split_words:"true" default:"500" desc:"records in one batch, at most" min:"1" max:"10000"`
	SendInterval time.Duration `split_words:"true" default:"10s" desc:"how long a batch waits for more records after its first" min:"10ms" max:"10m"`
	SendTimeout  time.Duration `split_words:"true" default:"30s" desc:"how long one request may take, its answer included" min:"10ms" max:"10m"`
	Senders      int           `split_words:"true" default:"1" desc:"connections that send in parallel; records of one object always take the same" min:"1" max:"64"`
	Protocol     Protocol      `split_words:"true" default:"auto" desc:"version of remote_write; auto finds out whether the destination speaks 2.0" oneof:"auto,1.0,2.0"`
	StaleMarkers bool          `split_words:"true" default:"false" desc:"end the series of an object that is gone, or was relabelled in a review, with a staleness marker"`
	OnRefused    OnRefused     `split_words:"true" default:"halve" desc:"what happens to a batch that is refused for some bad record: halve it to send the others, or drop all of it" oneof:"halve,drop"`
	Auth
}

// Auth are the settings of authentication and TLS. Either the file says all of
// it, or the others do.
type Auth struct {
	HTTPClientConfigFile string  `split_words:"true" desc:"file in the format of Prometheus' HTTP client configuration: basic_auth, authorization, oauth2, tls_config, http_headers, proxy_url" accepts:"the name of such a YAML file, whose own files are readable, and none of the other settings of authentication and TLS"`
	BearerTokenFile      string  `split_words:"true" desc:"file with a bearer token, read again for each request" accepts:"the name of a readable file of one line, without BASIC_USERNAME"`
	BasicUsername        string  `split_words:"true" desc:"user of basic authentication" accepts:"a name, together with BASIC_PASSWORD_FILE"`
	BasicPasswordFile    string  `split_words:"true" desc:"file with the password of basic authentication, read again for each request" accepts:"the name of a readable file, together with BASIC_USERNAME"`
	TLSCaFile            string  `split_words:"true" desc:"file with the certificate authorities to trust in place of the system's, read again when it has changed" accepts:"the name of a readable PEM file with certificates"`
	Headers              Headers `split_words:"true" desc:"headers added to each request, such as X-Scope-OrgID=tenant" accepts:"a list of name=value, each name once, and none that HTTP or remote_write sets itself"`
	// HTTPClient is made of the settings above. Its files are read when they are
	// needed.
	HTTPClient *promconfig.HTTPClientConfig `ignored:"true"`
}

// Leader are the settings of the election among replicas.
type Leader struct {
	LeaderElection bool   `split_words:"true" default:"false" desc:"elect which of several replicas reads and sends" also:"the latter with CHANGES=webhook"`
	LeaseName      string `split_words:"true" default:"labelstream" desc:"name of the Lease that the leader holds, in the pod's namespace" match:"subdomain"`
	// PodNamespace comes from the downward API: it alone is read without the
	// prefix too.
	PodNamespace string `envconfig:"POD_NAMESPACE" desc:"namespace of this pod; POD_NAMESPACE without the prefix is read too" match:"namespace"`
}

// Webhook are the settings of the admission webhook.
type Webhook struct {
	WebhookAddress string `split_words:"true" default:":8443" desc:"where the webhook is served" match:"address"`
	WebhookPath    string `split_words:"true" default:"/validate" desc:"path of the webhook; it may hold a part that only the API server knows, and is not logged" match:"path" secret:"true"`
	// WebhookCertDir is empty where a certificate is to be made.
	WebhookCertDir      string `split_words:"true" desc:"directory with the webhook's certificate and key, tls.crt and tls.key, read again when they change; where empty, a certificate is made and kept in a Secret" accepts:"the name of a directory with these PEM files"`
	WebhookName         string `split_words:"true" default:"labelstream-webhook" desc:"name of the webhook's Service, of the Secret with its certificate, and of the ValidatingWebhookConfiguration" match:"label"`
	WebhookClientCAFile string `split_words:"true" desc:"file with the authorities of callers' certificates, read again when it changes; where empty, anyone may call" accepts:"the name of a PEM file with certificates"`
}

// The values of settings that accept a few words.
const (
	PresetCloudZero       Preset = "cloudzero"
	PresetPrometheus      Preset = "prometheus"
	PresetMimir           Preset = "mimir"
	PresetVictoriaMetrics Preset = "victoriametrics"

	FormCloudZero        Form = "cloudzero"
	FormKubeStateMetrics Form = "kube-state-metrics"

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
