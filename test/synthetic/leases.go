// SPDX-License-Identifier: Apache-2.0

package synthetic

import (
	"io"
	"net/http"
	"strconv"
	"sync"

	coordination "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes/scheme"
)

// leases are the Leases of a cluster by path. Replicas elect their leader by them.
type leases struct {
	mu      sync.Mutex
	version int
	all     map[string]*coordination.Lease
}

func addLeases(mux *http.ServeMux) {
	l := &leases{all: map[string]*coordination.Lease{}}
	const path = "/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"
	mux.HandleFunc("GET "+path+"/{name}", func(w http.ResponseWriter, r *http.Request) {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.answer(w, r.URL.Path)
	})
	write := func(w http.ResponseWriter, r *http.Request) {
		lease := &coordination.Lease{}
		body, err := io.ReadAll(r.Body)
		if err == nil {
			// In JSON or in protobuf.
			_, _, err = scheme.Codecs.UniversalDeserializer().Decode(body, nil, lease)
		}
		if err != nil {
			fail(w, apierrors.NewBadRequest(err.Error()))
			return
		}
		path := r.URL.Path
		if r.Method == http.MethodPost {
			path += "/" + lease.Name
		}
		l.write(w, path, lease)
	}
	mux.HandleFunc("POST "+path, write)
	mux.HandleFunc("PUT "+path+"/{name}", write)
}

var leaseResource = schema.GroupResource{Group: coordination.GroupName, Resource: "leases"}

// write stores a Lease that follows from the one that is there, and refuses others.
func (l *leases) write(w http.ResponseWriter, path string, lease *coordination.Lease) {
	l.mu.Lock()
	defer l.mu.Unlock()
	before := ""
	if stored := l.all[path]; stored != nil {
		before = stored.ResourceVersion
	}
	if lease.ResourceVersion != before {
		fail(w, apierrors.NewConflict(leaseResource, lease.Name, nil))
		return
	}
	l.version++
	lease.ResourceVersion = strconv.Itoa(l.version)
	l.all[path] = lease
	l.answer(w, path)
}

func (l *leases) answer(w http.ResponseWriter, path string) {
	lease := l.all[path]
	if lease == nil {
		fail(w, apierrors.NewNotFound(leaseResource, path))
		return
	}
	lease.APIVersion, lease.Kind = coordination.SchemeGroupVersion.String(), "Lease"
	answer(w, inJSON, lease)
}
