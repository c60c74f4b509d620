package informer

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	"labelstream/record"
)

type jsonListMeta struct {
	ResourceVersion    string `json:"resourceVersion"`
	Continue           string `json:"continue"`
	RemainingItemCount *int64 `json:"remainingItemCount"`
}

type jsonObject struct {
	Metadata struct {
		Name              string            `json:"name"`
		Namespace         string            `json:"namespace"`
		UID               string            `json:"uid"`
		ResourceVersion   string            `json:"resourceVersion"`
		DeletionTimestamp *string           `json:"deletionTimestamp"`
		Labels            map[string]string `json:"labels"`
		Annotations       map[string]string `json:"annotations"`
	} `json:"metadata"`
}

// json reads a list in JSON, which API servers without protobuf speak. Like
// the protobuf reader it holds one object at a time.
func (d *decoder) json(p *page, each func(*object) error) error {
	in := json.NewDecoder(d.in)
	if err := expect(in, json.Delim('{')); err != nil {
		return err
	}
	found := false
	for in.More() {
		key, err := in.Token()
		if err != nil {
			return fmt.Errorf("decode the list: %w", noEOF(err))
		}
		switch key {
		case "metadata":
			var meta jsonListMeta
			if err := in.Decode(&meta); err != nil {
				return fmt.Errorf("decode the list's metadata: %w", noEOF(err))
			}
			meta.into(p)
		case "items":
			found = true
			if err := d.jsonItems(in, p, each); err != nil {
				return err
			}
		default:
			var ignored json.RawMessage
			if err := in.Decode(&ignored); err != nil {
				return fmt.Errorf("decode the list's field %q: %w", key, noEOF(err))
			}
		}
	}
	if err := expect(in, json.Delim('}')); err != nil {
		return err
	}
	if !found {
		// An answer of something in between; an empty list has items too.
		return errors.New("decode the list: the response has no items")
	}
	return nil
}

func (m *jsonListMeta) into(p *page) {
	p.ResourceVersion, p.Continue = m.ResourceVersion, m.Continue
	if m.RemainingItemCount != nil {
		p.Remaining = *m.RemainingItemCount
	}
}

func (d *decoder) jsonItems(in *json.Decoder, p *page, each func(*object) error) error {
	begin, err := in.Token()
	if err != nil {
		return fmt.Errorf("decode the list: %w", noEOF(err))
	}
	if begin == nil {
		return nil
	}
	if begin != json.Delim('[') {
		return fmt.Errorf("decode the list: its items are %v, not an array", begin)
	}
	for in.More() {
		var item jsonObject
		if err := in.Decode(&item); err != nil {
			return fmt.Errorf("decode object %d of the list: %w", p.Items+1, noEOF(err))
		}
		p.Items++
		item.into(&d.object)
		if err := each(&d.object); err != nil {
			return err
		}
	}
	return expect(in, json.Delim(']'))
}

func (j *jsonObject) into(o *object) {
	o.reset()
	o.Name, o.Namespace = []byte(j.Metadata.Name), []byte(j.Metadata.Namespace)
	o.UID, o.ResourceVersion = []byte(j.Metadata.UID), []byte(j.Metadata.ResourceVersion)
	o.Deleting = j.Metadata.DeletionTimestamp != nil
	o.Labels = appendTags(o.Labels, j.Metadata.Labels)
	o.Annotations = appendTags(o.Annotations, j.Metadata.Annotations)
}

// appendTags appends in the order of the keys, in which protobuf comes too.
func appendTags(tags []record.Tag, from map[string]string) []record.Tag {
	for _, key := range slices.Sorted(maps.Keys(from)) {
		tags = append(tags, record.Tag{Key: []byte(key), Value: []byte(from[key])})
	}
	return tags
}

func expect(in *json.Decoder, want json.Delim) error {
	token, err := in.Token()
	if err != nil {
		return fmt.Errorf("decode the list: %w", noEOF(err))
	}
	if token != want {
		return errors.New("decode the list: the response is no list in protobuf or JSON")
	}
	return nil
}
