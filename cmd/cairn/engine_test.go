package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// fakeEngine is a program of scripts: fake-engine SOCKET FILE takes images by
// docker's API, and writes what came to FILE.
func fakeEngine() {
	l, err := net.Listen("unix", os.Args[1])
	if err == nil {
		err = os.Chmod(os.Args[1], 0o777)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println("listening")
	_ = http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		if err == nil && r.Method+r.URL.Path == "POST/images/load" {
			err = os.WriteFile(os.Args[2], b, 0o666)
		}
		if err != nil {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		fmt.Fprintln(w, `{"stream":"Loaded image\n"}`)
	}))
}

func TestLoadBySocket(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	var status int
	var said string
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if b, _ := io.ReadAll(r.Body); string(b) != "image" {
			t.Errorf("%s", b)
		}
		w.WriteHeader(status)
		fmt.Fprint(w, said)
	}))
	s.Listener.Close()
	s.Listener = l
	s.Start()
	defer s.Close()
	for _, test := range []struct {
		status     int
		said, want string
	}{
		{200, `{"stream":"Loading"}{"stream":"Loaded"}`, ""},
		{200, "", ""},
		{200, `{"stream":"Loading"}{"errorDetail":{"message":"no space"},"error":"no space"}`, "no space"},
		{500, `{"message":"invalid tar"}`, "invalid tar"},
		{502, "<html>", "502 Bad Gateway"},
		{200, "<html>", "its answer: "},
	} {
		status, said = test.status, test.said
		err := engineAddress{kind: "docker", url: "unix://" + socket}.load(context.Background(), strings.NewReader("image"))
		if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
			t.Errorf("%d %s: error %v, want %q", status, said, err, test.want)
		}
	}
}
