package wire

import (
	"bytes"
	"fmt"
	"reflect"
	"testing"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func full() *Request {
	return &Request{
		Lowers: []string{"/a", "", "/b\xff\n"}, Upper: "/u", Work: "/w", Root: "/r", MountPoints: "/s",
		Mounts: []Mount{
			{Type: "tmpfs", Target: "/t", Size: 1 << 40, Mode: 0o1777},
			{
				Type: "overlay", Source: "/x", Target: "/y", ReadOnly: true, Lowers: []string{"/l", "\xff"}, Upper: "/up", Work: "/wo",
				Subpath: "/s", Size: -1, Data: "\x00", UID: 1, GID: 2, Mode: 3,
			},
		},
		Args: []string{"sh", "-c", ""}, Env: []string{"A=\xfe"}, Dir: "/d", MakeDir: true, User: "u:g", Groups: []string{"g"}, DropCaps: 1 << 40, NoHosts: true,
		CgroupFiles: []string{"/sys/fs/cgroup/x/cgroup.procs"}, Hostname: "h", HostsFile: "127.0.0.1\n", ResolvConf: "\x00", NoNetwork: true, ShmSize: 5,
		Ulimits:     []Ulimit{{"nofile", 1, 2, -1}},
		Interactive: true, Terminal: true, Insecure: true, Own: 6, OptionText: true, Probe: "/p",
	}
}

func TestWire(t *testing.T) {
	for _, want := range []*Request{{}, full()} {
		var b bytes.Buffer
		must(t, Send(&b, want))
		got := new(Request)
		must(t, Receive(&b, got))
		if fmt.Sprintf("%#v", *got) != fmt.Sprintf("%#v", *want) {
			t.Errorf("got %#v, want %#v", *got, *want)
		}
	}
}

// TestWireHasAllFields fails if a new field is not encoded.
func TestWireHasAllFields(t *testing.T) {
	var b bytes.Buffer
	must(t, Send(&b, full()))
	got := new(Request)
	must(t, Receive(&b, got))
	for _, v := range []reflect.Value{reflect.ValueOf(*got), reflect.ValueOf(got.Mounts[1])} {
		for i := range v.NumField() {
			if v.Field(i).IsZero() {
				t.Errorf("field %s is lost", v.Type().Field(i).Name)
			}
		}
	}
	reply := Reply{"e", 3, "a\x00", End{1 << 31, 2, 1 << 40}}
	must(t, Send(&b, &reply))
	var back Reply
	if must(t, Receive(&b, &back)); back != reply {
		t.Errorf("got %+v", back)
	}
}

func FuzzReceive(f *testing.F) {
	var b bytes.Buffer
	must(f, Send(&b, full()))
	f.Add(b.Bytes())
	f.Add([]byte{4, 0, 0, 0, 255, 255, 255, 255})
	f.Fuzz(func(t *testing.T, text []byte) {
		if len(text) > 4 {
			// Receive allocates memory of the given length, so keep that small.
			text[2], text[3] = 0, 0
		}
		var r Request
		if Receive(bytes.NewReader(text), &r) != nil {
			return
		}
		var out bytes.Buffer
		must(t, Send(&out, &r))
		var again Request
		must(t, Receive(&out, &again))
		if fmt.Sprintf("%#v", r) != fmt.Sprintf("%#v", again) {
			t.Errorf("%#v became %#v", r, again)
		}
	})
}
