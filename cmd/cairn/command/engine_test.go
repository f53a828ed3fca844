package command

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
)

func TestLoadBySocket(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	var status int
	var answer string
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if b, _ := io.ReadAll(r.Body); string(b) != "image" {
			t.Errorf("%s", b)
		}
		w.WriteHeader(status)
		fmt.Fprint(w, answer)
	}))
	s.Listener.Close()
	s.Listener = l
	s.Start()
	defer s.Close()
	for _, test := range []struct {
		status       int
		answer, want string
	}{
		{200, `{"stream":"Loading"}{"stream":"Loaded"}`, ""},
		{200, "", ""},
		{200, `{"stream":"Loading"}{"errorDetail":{"message":"no space"},"error":"no space"}`, "no space"},
		{500, `{"message":"invalid tar"}`, "invalid tar"},
		{502, "<html>", "502 Bad Gateway"},
		{200, "<html>", "parsing the engine's answer: "},
	} {
		status, answer = test.status, test.answer
		err := engineAddress{kind: "docker", url: "unix://" + socket}.load(context.Background(), strings.NewReader("image"))
		if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
			t.Errorf("%d %s: error %v, want %q", status, answer, err, test.want)
		}
	}
}
