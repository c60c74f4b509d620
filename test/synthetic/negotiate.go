package synthetic

import (
	"errors"
	"fmt"
	"mime"
	"strings"

	"k8s.io/apimachinery/pkg/runtime"
)

// errNotAcceptable says that a client accepts nothing that is served.
var errNotAcceptable = errors.New("only application/json and application/vnd.kubernetes.protobuf are served, whole or as PartialObjectMetadata of meta.k8s.io/v1")

// negotiate picks the first of the accepted types that is served. The order
// is the preference; client-go's clients send no weights.
func negotiate(accept string, jsonOnly bool) (form, error) {
	if accept == "" {
		return form{json: true, full: true}, nil
	}
	for one := range strings.SplitSeq(accept, ",") {
		mediaType, parameters, err := mime.ParseMediaType(one)
		if err != nil {
			return form{}, fmt.Errorf("parse the Accept header %q: %w", accept, err)
		}
		var f form
		switch mediaType {
		case runtime.ContentTypeProtobuf:
			if jsonOnly {
				continue
			}
		case runtime.ContentTypeJSON, "application/*", "*/*":
			f.json = true
		default:
			continue
		}
		switch parameters["as"] {
		case "":
			f.full = true
		case "PartialObjectMetadata", "PartialObjectMetadataList":
			if parameters["g"] != "meta.k8s.io" || parameters["v"] != "v1" {
				continue
			}
		default:
			continue
		}
		return f, nil
	}
	return form{}, fmt.Errorf("%w, not %q", errNotAcceptable, accept)
}

// contentType is that of a whole answer.
func (f form) contentType() string {
	if f.json {
		return runtime.ContentTypeJSON
	}
	return runtime.ContentTypeProtobuf
}

// watchContentType is that of a stream of events.
func (f form) watchContentType() string {
	if f.json {
		return runtime.ContentTypeJSON
	}
	return runtime.ContentTypeProtobuf + ";stream=watch"
}
