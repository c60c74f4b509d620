// SPDX-License-Identifier: Apache-2.0

package status

import (
	"net/http"
	"net/http/httptest"
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"labelstream/config"
	"labelstream/emitter"
	"labelstream/record"
)

// TestPageHeaders wants a browser to run what the page itself has and nothing else,
// and to keep nothing.
func TestPageHeaders(t *testing.T) {
	mux := newMux(&Options{Gatherer: prometheus.NewRegistry(), State: func() *State { return &State{} }})
	get := func(path string) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
		return w
	}
	page := get("/").Body.String()
	inline := func(element string) string {
		return hashOf(regexp.MustCompile(`(?s)<` + element + `>(.*?)</` + element + `>`).FindStringSubmatch(page)[1])
	}
	want := http.Header{
		"Content-Type": {"text/html; charset=utf-8"}, "X-Content-Type-Options": {"nosniff"}, "Referrer-Policy": {"no-referrer"}, "Cache-Control": {"no-store"},
		"Content-Security-Policy": {"default-src 'none'; script-src '" + inline("script") + "'; style-src '" + inline("style") +
			"'; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"},
	}
	if diff := cmp.Diff(want, get("/").Header()); diff != "" {
		t.Errorf("headers of the page (-want +got):\n%s", diff)
	}
	want.Set("Content-Type", "application/json")
	want.Del("Content-Security-Policy")
	if diff := cmp.Diff(want, get("/api/v1/status").Header()); diff != "" {
		t.Errorf("headers of the JSON (-want +got):\n%s", diff)
	}
}

// TestPageRows has what the states of a daemon in the tests of app do not have.
func TestPageRows(t *testing.T) {
	total, now := int64(8), time.Unix(1000, 0)
	state := &State{
		Time: now, Changes: config.ChangesWatch,
		Resources: []Resource{
			{Resource: "pods", Read: 2, Total: &total, Drops: record.Drops{Empty: 1, Unsafe: 2, LongName: 3, TooMany: 4, Truncated: 5}, LastList: now.Add(-90 * time.Second)},
			{Resource: "nodes", Synced: true},
		},
		LeftOut:     7,
		Destination: &emitter.Status{Refused: []emitter.Refusal{{Time: now, Records: 3, Reason: "not_written", Error: "<none>", Hint: "look"}}},
	}
	mux := newMux(&Options{Gatherer: prometheus.NewRegistry(), State: func() *State { return state }})
	w := httptest.NewRecorder()
	mux.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", nil))
	for _, want := range []string{
		`<progress aria-label="pods" max="8" value="2"></progress> 2 of 8`, "1 empty 2 unsafe 3 with a long name 4 too many 5 cut<", "1m30s ago",
		"synced, not watched", "7 more are in the metrics", `"Name">3 records<`, `&lt;none&gt;<br><span class="soft">look</span>`,
	} {
		if !strings.Contains(w.Body.String(), want) {
			t.Errorf("the page lacks %s:\n%s", want, w.Body)
		}
	}
}

// TestStatusIsDocumented wants docs/status.md to have a row for each field.
func TestStatusIsDocumented(t *testing.T) {
	document, err := os.ReadFile("../docs/status.md")
	if err != nil {
		t.Fatal(err)
	}
	var visit func(typ reflect.Type, path string)
	visit = func(typ reflect.Type, path string) {
		for typ.Kind() == reflect.Slice {
			typ, path = typ.Elem(), path+"[]"
		}
		if typ.Kind() == reflect.Pointer {
			typ = typ.Elem()
		}
		if typ.Kind() != reflect.Struct || typ == reflect.TypeFor[time.Time]() {
			if !strings.Contains(string(document), "\n| `"+path+"` |") {
				t.Errorf("docs/status.md lacks %s", path)
			}
			return
		}
		for field := range typ.Fields() {
			name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
			if name == "-" {
				continue
			}
			visit(field.Type, strings.TrimPrefix(path+"."+name, "."))
		}
	}
	visit(reflect.TypeFor[State](), "")
}
