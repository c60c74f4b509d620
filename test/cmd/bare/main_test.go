package main

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/iotest"

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
	w = httptest.NewRecorder()
	answer(w, httptest.NewRequest(http.MethodPost, "/validate", iotest.ErrReader(errors.New("cut off"))))
	if w.Code != http.StatusBadRequest {
		t.Errorf("a body that is cut off is answered %d", w.Code)
	}
}

func TestRunTellsFailures(t *testing.T) {
	err := run(t.Context(), "127.0.0.1:0", "/nowhere/tls.crt", "/nowhere/tls.key")
	if err == nil || !strings.Contains(err.Error(), "/nowhere/tls.crt") {
		t.Errorf("error %v", err)
	}
}
