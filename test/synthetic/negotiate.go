package synthetic

import (
	"fmt"
	"mime"
	"strings"

	"k8s.io/apimachinery/pkg/runtime"
)

// encoding is what an answer is written in.
type encoding string

const (
	inProtobuf = encoding(runtime.ContentTypeProtobuf)
	inJSON     = encoding(runtime.ContentTypeJSON)
)

// negotiate picks the first of the accepted types that is served: metadata in
// protobuf or JSON. The order is the preference; client-go's clients send no
// weights.
func negotiate(accept string, jsonOnly bool) (encoding, error) {
	for one := range strings.SplitSeq(accept, ",") {
		mediaType, parameters, err := mime.ParseMediaType(one)
		if err != nil || parameters["g"] != "meta.k8s.io" || parameters["v"] != "v1" || !strings.HasPrefix(parameters["as"], "PartialObjectMetadata") {
			continue
		}
		switch found := encoding(mediaType); {
		case found == inProtobuf && !jsonOnly, found == inJSON:
			return found, nil
		}
	}
	return inJSON, fmt.Errorf("only %s and %s are served, as PartialObjectMetadata of meta.k8s.io/v1, not %q", inProtobuf, inJSON, accept)
}
