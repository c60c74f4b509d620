package main

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestAnswer(t *testing.T) {
	body := strings.NewReader(strings.Repeat("x", 4000))
	w := httptest.NewRecorder()
	answer(w, httptest.NewRequest(http.MethodPost, "/validate", body))
	if w.Code != http.StatusOK || w.Body.String() != constant || w.Header().Get("Content-Type") != "application/json" {
		t.Errorf("answered %d %v %s", w.Code, w.Header(), w.Body)
	}
	if body.Len() > 0 {
		t.Errorf("%d bytes of the body are not read", body.Len())
	}
}
