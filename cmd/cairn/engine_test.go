package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
)

// fakeEngine is a program for scripts: fake-engine SOCKET FILE [containerd] loads images
// by Docker's API, and writes them to FILE. With a third argument it has containerd's
// image store.
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
		if r.Method+r.URL.Path == "GET/info" {
			driver := `[["Backing Filesystem","extfs"]]`
			if len(os.Args) > 3 {
				driver = `[["driver-type","io.containerd.snapshotter.v1"]]`
			}
			fmt.Fprintf(w, `{"Driver":"overlayfs","DriverStatus":%s}`, driver)
			return
		}
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
