package synthetic

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"strconv"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// page is what one list request is answered with: the objects from inclusive
// to exclusive.
type page struct {
	from, to int
	meta     metav1.ListMeta
}

// continueToken is what a token holds, base64-encoded: in the form of a real
// one, but that the key to start at is an index.
type continueToken struct {
	Version         string `json:"v"`
	ResourceVersion int64  `json:"rv"`
	Start           string `json:"start"`
}

// inconsistent marks the token that an expired answer gives: it goes on with
// whatever is there now, so it never expires.
const inconsistent = -1

func encodeContinue(start int, version int64) string {
	// A struct of strings and numbers always has a JSON form.
	raw, _ := json.Marshal(continueToken{"meta.k8s.io/v1", version, strconv.Itoa(start)})
	return base64.RawURLEncoding.EncodeToString(raw)
}

func decodeContinue(encoded string) (start int, version int64, err error) {
	raw, err := base64.RawURLEncoding.DecodeString(encoded)
	if err != nil {
		return 0, 0, err
	}
	var token continueToken
	if err := json.Unmarshal(raw, &token); err != nil {
		return 0, 0, err
	}
	if token.Version != "meta.k8s.io/v1" {
		return 0, 0, fmt.Errorf("token of version %q", token.Version)
	}
	if token.ResourceVersion < listVersion && token.ResourceVersion != inconsistent {
		return 0, 0, fmt.Errorf("token of resourceVersion %d", token.ResourceVersion)
	}
	start, err = strconv.Atoi(token.Start)
	return start, token.ResourceVersion, err
}

// listRequest is the part of a list's query that decides about the page.
type listRequest struct {
	limit        int // 0: all
	start        int // an index, -1 without a token
	version      int64
	inconsistent bool
}

// parseListRequest refuses what a real server refuses, and what this one could
// only answer wrongly: selectors.
func parseListRequest(query url.Values) (listRequest, error) {
	request := listRequest{start: -1}
	for _, selector := range []string{"labelSelector", "fieldSelector"} {
		if query.Get(selector) != "" {
			return request, apierrors.NewBadRequest(selector + " is not supported by the synthetic server")
		}
	}
	if text := query.Get("limit"); text != "" {
		limit, err := strconv.Atoi(text)
		if err != nil || limit < 0 {
			return request, apierrors.NewBadRequest(fmt.Sprintf("limit %q is not a number of objects", text))
		}
		request.limit = limit
	}
	version, match, token := query.Get("resourceVersion"), query.Get("resourceVersionMatch"), query.Get("continue")
	if match != "" && (version == "" || token != "") {
		return request, apierrors.NewBadRequest("resourceVersionMatch is forbidden unless resourceVersion is provided, and with continue")
	}
	if token == "" {
		// The watch cache holds all objects, and gives them all: a limit counts only
		// where etcd answers.
		if version != "" && match != string(metav1.ResourceVersionMatchExact) {
			request.limit = 0
		}
		return request, nil
	}
	if version != "" && version != "0" {
		return request, apierrors.NewBadRequest("specifying resource version is not allowed when using continue")
	}
	start, tokenVersion, err := decodeContinue(token)
	if err != nil {
		return request, apierrors.NewBadRequest(fmt.Sprintf("continue key is not valid: %v", err))
	}
	request.start, request.version, request.inconsistent = start, tokenVersion, tokenVersion == inconsistent
	return request, nil
}

// page cuts the objects from and to, as they are at a version, for the request.
func (r listRequest) page(from, to int, version int64) (page, error) {
	p := page{from: from, to: to, meta: metav1.ListMeta{ResourceVersion: strconv.FormatInt(version, 10)}}
	if r.start >= 0 {
		if r.start < from || r.start > to {
			return p, apierrors.NewBadRequest("continue key is not valid: it is of another list")
		}
		p.from = r.start
	}
	if r.limit > 0 && p.from+r.limit < to {
		p.to = p.from + r.limit
		remaining := int64(to - p.to)
		p.meta.RemainingItemCount = &remaining
		p.meta.Continue = encodeContinue(p.to, version)
	}
	return p, nil
}

// expiredError is what a server answers whose history no longer holds the version
// of the token: with another token, to go on regardless.
func (r listRequest) expiredError() error {
	err := apierrors.NewResourceExpired("the provided continue parameter is too old to display a consistent list result; " +
		"the token in this answer continues with an inconsistent one")
	err.ErrStatus.Continue = encodeContinue(r.start, inconsistent)
	return err
}

// chunkBytes is what is gathered before it is written.
const chunkBytes = 64 << 10

// itemWriter writes the items of a page, one after the other.
type itemWriter struct {
	collection collection
	templates  []*template
	page       page
}

// size is the number of bytes that all items take, without separators.
func (w *itemWriter) size() int {
	size := 0
	for i := w.page.from; i < w.page.to; i++ {
		size += len(w.templates[w.collection.shape(i)].encoded)
	}
	return size
}

// write writes all items, sep between them, after what head holds.
func (w *itemWriter) write(out io.Writer, head []byte, sep string) (int, error) {
	var v values
	written, chunk := 0, append(make([]byte, 0, chunkBytes+chunkBytes/8), head...)
	for i := w.page.from; i < w.page.to; i++ {
		if i > w.page.from {
			chunk = append(chunk, sep...)
		}
		w.collection.fill(i, &v)
		chunk = w.templates[w.collection.shape(i)].append(chunk, &v)
		if len(chunk) < chunkBytes {
			continue
		}
		n, err := out.Write(chunk)
		if written += n; err != nil {
			return written, err
		}
		chunk = chunk[:0]
	}
	n, err := out.Write(chunk)
	return written + n, err
}

// writeProtobuf writes the list as apimachinery's serializer does: four bytes of
// magic, then a runtime.Unknown that names the type and holds the list. Its
// length stands in front, so it is summed up first.
func (w *itemWriter) writeProtobuf(out io.Writer) error {
	encoded, err := w.page.meta.Marshal()
	if err != nil {
		return fmt.Errorf("encode the metadata of a list: %w", err)
	}
	const metadataTag = 1<<3 | 2
	head := append(binary.AppendUvarint([]byte{metadataTag}, uint64(len(encoded))), encoded...)
	if _, err := io.WriteString(out, "k8s\x00"); err != nil {
		return err
	}
	unknown := runtime.Unknown{TypeMeta: runtime.TypeMeta{APIVersion: "meta.k8s.io/v1", Kind: "PartialObjectMetadataList"}}
	_, err = unknown.MarshalToWriter(out, len(head)+w.size(), func(out io.Writer) (int, error) {
		return w.write(out, head, "")
	})
	return err
}

// writeJSON writes the list as apimachinery's serializer does.
func (w *itemWriter) writeJSON(out io.Writer) error {
	encoded, err := json.Marshal(w.page.meta)
	if err != nil {
		return fmt.Errorf("encode the metadata of a list: %w", err)
	}
	head := fmt.Appendf(nil, `{"kind":"PartialObjectMetadataList","apiVersion":"meta.k8s.io/v1","metadata":%s,"items":[`, encoded)
	if _, err := w.write(out, head, ","); err != nil {
		return err
	}
	_, err = io.WriteString(out, "]}\n")
	return err
}
