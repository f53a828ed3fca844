package export

import (
	"encoding/json"
	"testing"
	"time"

	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/cairn-build/cairn/layer"
)

var (
	now   = time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	early = time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)
	late  = time.Date(2021, 1, 1, 0, 0, 0, 0, time.UTC)
)

// step is a history entry of this build; empty ones have no layer.
func step(by string, empty bool) ocispec.History {
	return ocispec.History{CreatedBy: by, EmptyLayer: empty}
}

// baseOf makes a base image with n layers and a history.
func baseOf(t *testing.T, n int, created *time.Time, history ...ocispec.History) *layer.Image {
	t.Helper()
	var cfg dockerspec.DockerOCIImage
	cfg.Created, cfg.History = created, history
	raw, err := json.Marshal(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return &layer.Image{Config: raw, Layers: make([]layer.Descriptor, n)}
}

// TestHistoryTimes checks the times of history entries and of the image.
func TestHistoryTimes(t *testing.T) {
	t.Parallel()
	base := ocispec.History{CreatedBy: "base", Created: &early}
	epoch := int64(1)
	atEpoch := time.Unix(1, 0).UTC()
	for name, test := range map[string]struct {
		image   Image
		layers  []time.Time
		history []ocispec.History
		want    []time.Time // of all entries; zero: none
		created time.Time   // of the image; zero: none
	}{
		"no entries": {},
		"metadata only": {
			history: []ocispec.History{step("ENV", true), step("CMD", true)},
			want:    []time.Time{now, now}, created: now,
		},
		"entries have the time of their layer or the one before": {
			layers:  []time.Time{early, late},
			history: []ocispec.History{step("ENV", true), step("COPY 1", false), step("USER", true), step("COPY 2", false), step("CMD", true)},
			want:    []time.Time{early, early, early, late, late}, created: late,
		},
		"layer of unknown time": {
			layers:  []time.Time{early, {}, late},
			history: []ocispec.History{step("COPY 1", false), step("COPY 2", false), step("COPY 3", false)},
			want:    []time.Time{early, early, late}, created: late,
		},
		"layers of the base image": {
			image:   Image{Base: baseOf(t, 1, &early, base)},
			layers:  []time.Time{{}, late},
			history: []ocispec.History{base, step("ENV", true), step("COPY", false)},
			want:    []time.Time{early, late, late}, created: late,
		},
		"base image and metadata": {
			image:   Image{Base: baseOf(t, 1, &early, base)},
			layers:  []time.Time{{}},
			history: []ocispec.History{base, step("ENV", true)},
			want:    []time.Time{early, now}, created: now,
		},
		"base image only": {
			image:   Image{Base: baseOf(t, 1, &early, base)},
			layers:  []time.Time{{}},
			history: []ocispec.History{base},
			want:    []time.Time{early}, created: early,
		},
		"base image without history": {
			image:   Image{Base: baseOf(t, 2, &early)},
			layers:  []time.Time{{}, {}, late},
			history: []ocispec.History{step("COPY", false)},
			want:    []time.Time{early, early, late}, created: late,
		},
		"base image without history and time": {
			image:  Image{Base: baseOf(t, 1, nil)},
			layers: []time.Time{{}},
			want:   []time.Time{{}},
		},
		"epoch": {
			image:   Image{Epoch: &epoch, Base: baseOf(t, 1, &early, base)},
			layers:  []time.Time{{}, late},
			history: []ocispec.History{base, step("ENV", true), step("COPY", false)},
			want:    []time.Time{early, atEpoch, atEpoch}, created: atEpoch,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var cfg dockerspec.DockerOCIImage
			cfg.History = test.history
			if err := test.image.setHistory(&cfg, test.layers, now); err != nil {
				t.Fatal(err)
			}
			if len(cfg.History) != len(test.want) {
				t.Fatalf("%d entries, want %d: %v", len(cfg.History), len(test.want), cfg.History)
			}
			for i, want := range test.want {
				wantTime(t, cfg.History[i].CreatedBy, cfg.History[i].Created, want)
			}
			wantTime(t, "the image", cfg.Created, test.created)
		})
	}
}

func wantTime(t *testing.T, what string, got *time.Time, want time.Time) {
	t.Helper()
	if got == nil && want.IsZero() {
		return
	}
	if got == nil || !got.Equal(want) || got.Location() != time.UTC {
		t.Errorf("%s: %v, want %v", what, got, want)
	}
}

// TestHistoryEntries checks that a time of the config is kept, that the plan's history
// is not changed, and where entries for layers without history go.
func TestHistoryEntries(t *testing.T) {
	t.Parallel()
	base := ocispec.History{CreatedBy: "base", Created: &early}
	img := Image{Base: baseOf(t, 3, &early, base)}
	planned := []ocispec.History{base, step("COPY", false)}
	var cfg dockerspec.DockerOCIImage
	cfg.History, cfg.Created = planned, &early
	if err := img.setHistory(&cfg, []time.Time{{}, {}, {}, late}, now); err != nil {
		t.Fatal(err)
	}
	var by []string
	for _, h := range cfg.History {
		by = append(by, h.CreatedBy)
	}
	wantList(t, "history", by, "base", "layer of the base image", "layer of the base image", "COPY")
	wantTime(t, "the image", cfg.Created, early)
	wantTime(t, "COPY", cfg.History[3].Created, late)
	if planned[1].Created != nil || len(planned) != 2 {
		t.Errorf("the plan's history changed: %v", planned)
	}
}

func TestDamagedBaseConfig(t *testing.T) {
	t.Parallel()
	img := Image{Base: &layer.Image{Config: []byte(`{"history": 1}`)}}
	wantError(t, img.setHistory(&dockerspec.DockerOCIImage{}, nil, now), "reading the base image's config", "history")
}
