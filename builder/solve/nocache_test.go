package solve

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// A NoCache stage runs although the steps that use it are cached. Steps on top of it
// run too; steps that copy from it run only if its result changed.
func TestFreshStages(t *testing.T) {
	t.Parallel()
	fresh := func() *Step {
		final := twoStages()
		copyFrom := final.In[0].Step
		copyFrom.In[1].Step.NoCache = true // compile
		return final
	}
	w := twoStageWorld()
	w.build(t, twoStages)
	_, log := w.build(t, fresh)
	if diff := cmp.Diff([]string{"run compile", "run context", "run image"}, runs(log)); diff != "" {
		t.Errorf("the same came of it (-want +got):\n%s", diff)
	}

	w.output["compile"] = "out2 log2"
	_, log = w.build(t, fresh)
	if diff := cmp.Diff([]string{"run compile", "run context", "run copyfrom", "run final", "run image"}, runs(log)); diff != "" {
		t.Errorf("another result (-want +got):\n%s", diff)
	}

	below := func() *Step {
		final := twoStages()
		final.In[0].Step.NoCache = true // copyfrom, which final stands on
		return final
	}
	_, log = w.build(t, below)
	if diff := cmp.Diff([]string{"run context", "run copyfrom", "run final", "run image"}, runs(log)); diff != "" {
		t.Errorf("what stands on it (-want +got):\n%s", diff)
	}
}

// runs returns the steps that ran, sorted.
func runs(log []string) []string {
	log = slices.DeleteFunc(slices.Clone(log), func(s string) bool { return s[:4] != "run " })
	slices.Sort(log)
	return log
}
