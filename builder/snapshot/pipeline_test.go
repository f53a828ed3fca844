package snapshot

import "testing"

// TestLayerOf checks the names of layers in the display.
func TestLayerOf(t *testing.T) {
	for step, want := range map[string]string{
		"[2/3] RUN make":                     "layer of [2/3]",
		"[linux/arm64 build 12/13] COPY . .": "layer of [linux/arm64 build 12/13]",
		"RUN test [ -f x ] && make":          "layer of RUN test [ -f x ] && make",
	} {
		if got := layerOf(step); got != want {
			t.Errorf("%q: %q, want %q", step, got, want)
		}
	}
}
