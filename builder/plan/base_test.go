package plan

import (
	"context"
	"encoding/json"
	"testing"

	"github.com/cairn-build/cairn/builder/dockerfile"
	"github.com/cairn-build/cairn/builder/plan/op"
	"github.com/cairn-build/cairn/layer"
)

// FuzzBase plans a build on an image with a foreign config: its variables,
// triggers, shell, user and history.
func FuzzBase(f *testing.F) {
	f.Add(`{"config":{"Env":["PATH=/bin","A"],"Shell":["sh"],"User":"u:g","WorkingDir":"/w","OnBuild":["RUN x","COPY --from=busybox a b"]},"history":[{"created_by":"x"},{"empty_layer":true}]}`)
	f.Add(`{"config":{"OnBuild":["FROM x","ONBUILD RUN y","<<E","RUN <<E\nx\nE"],"Labels":{"":"` + "\x1b" + `"},"ExposedPorts":{"x":{}},"Volumes":{"../..":{}}}}`)
	f.Add(`{"os":"windows","architecture":"../..","os.version":"1","variant":"v8","created":"0000-01-01T00:00:00Z"}`)
	f.Add(`{"config":{"Env":["=","","A=\u0000"],"Healthcheck":{"Interval":-1},"StopSignal":"x","Cmd":null,"WorkingDir":"../../.."},"rootfs":{"diff_ids":["x"]}}`)
	f.Add(`{"config":null,"history":null}`)
	file, err := dockerfile.Parse("f", []byte("FROM foreign\nWORKDIR a\nRUN x\nCOPY a b\nADD b c/\nUSER 1\nENV A=$A\nRUN --mount=target=$A x\nFROM foreign\nCOPY --from=0 a b\n"))
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, config string) {
		if !json.Valid([]byte(config)) {
			return
		}
		base := func(context.Context, string, layer.Platform) (layer.Image, error) {
			return layer.Image{Config: []byte(config), Digest: layer.FromBytes([]byte(config))}, nil
		}
		p, err := Make(context.Background(), Input{File: file, Base: base})
		if err != nil {
			return
		}
		if _, err := p.MarshalJSON(); err != nil {
			t.Fatal(err)
		}
		for _, s := range p.Steps {
			if _, err := op.Decode(s.Step); err != nil {
				t.Fatal(err)
			}
		}
	})
}
