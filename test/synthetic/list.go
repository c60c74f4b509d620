// SPDX-License-Identifier: Apache-2.0

package synthetic

import (
	"cmp"
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

// newPage cuts what a query asks for from so many objects. It refuses what a real
// server refuses, and all parameters that this one would have to ignore.
func newPage(query url.Values, objects int, version, oldest int64) (page, *apierrors.StatusError) {
	p := page{to: objects, meta: metav1.ListMeta{ResourceVersion: strconv.FormatInt(version, 10)}}
	for name := range query {
		if name != "limit" && name != "continue" {
			return p, apierrors.NewBadRequest(name + " is not supported by the synthetic server")
		}
	}
	limit, err := strconv.Atoi(cmp.Or(query.Get("limit"), "0"))
	if err != nil || limit < 0 {
		return p, apierrors.NewBadRequest(fmt.Sprintf("limit %q is not a number of objects", query.Get("limit")))
	}
	if token := query.Get("continue"); token != "" {
		var of int64
		if _, err := fmt.Sscanf(token, tokenFormat, &of, &p.from); err != nil || p.from < 0 || p.from > objects {
			return p, apierrors.NewBadRequest("continue key is not valid")
		}
		if of < oldest {
			return p, expired()
		}
	}
	if limit > 0 && p.from+limit < objects {
		p.to = p.from + limit
		remaining := int64(objects - p.to)
		p.meta.RemainingItemCount = &remaining
		p.meta.Continue = fmt.Sprintf(tokenFormat, version, p.to)
	}
	return p, nil
}

// tokenFormat is that of a token to continue: the list's version, and the index to
// start at.
const tokenFormat = "%d.%d"

type itemWriter struct {
	objects   pods
	templates []*template
	page      page
}

// size is the number of bytes that all items take, without separators.
func (w *itemWriter) size() int {
	size := 0
	for i := w.page.from; i < w.page.to; i++ {
		size += len(w.templates[w.objects.shape(i)].encoded)
	}
	return size
}

// write writes all items, sep between them.
func (w *itemWriter) write(out io.Writer, sep string) (written int, err error) {
	var v values
	var item []byte
	for i := w.page.from; i < w.page.to && err == nil; i++ {
		item = item[:0]
		if i > w.page.from {
			item = append(item, sep...)
		}
		w.objects.fill(i, &v)
		item = w.templates[w.objects.shape(i)].append(item, &v)
		written += len(item)
		_, err = out.Write(item)
	}
	return written, err
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
		if _, err := out.Write(head); err != nil {
			return 0, err
		}
		written, err := w.write(out, "")
		return len(head) + written, err
	})
	return err
}

func (w *itemWriter) writeJSON(out io.Writer) error {
	encoded, err := json.Marshal(w.page.meta)
	if err != nil {
		return fmt.Errorf("encode the metadata of a list: %w", err)
	}
	fmt.Fprintf(out, `{"kind":"PartialObjectMetadataList","apiVersion":"meta.k8s.io/v1","metadata":%s,"items":[`, encoded)
	if _, err := w.write(out, ","); err != nil {
		return err
	}
	_, err = io.WriteString(out, "]}\n")
	return err
}
