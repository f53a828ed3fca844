package once

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
)

var errTest = errors.New("test")

func TestValueIsComputedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var v Value[int]
		calls := 0
		release := make(chan struct{})
		results := make(chan int)
		for range 5 {
			go func() {
				got, err := v.Do(t.Context(), func() (int, error) {
					calls++
					<-release
					return 7, nil
				})
				if err != nil {
					t.Error(err)
				}
				results <- got
			}()
		}
		synctest.Wait()
		close(release)
		for range 5 {
			if got := <-results; got != 7 {
				t.Errorf("got %d, want 7", got)
			}
		}
		if calls != 1 {
			t.Errorf("computed %d times, want 1", calls)
		}
	})
}

func TestErrorIsForgotten(t *testing.T) {
	var v Value[int]
	if _, err := v.Do(t.Context(), func() (int, error) { return 0, errTest }); err != errTest {
		t.Fatalf("got error %v, want %v", err, errTest)
	}
	got, err := v.Do(t.Context(), func() (int, error) { return 2, nil })
	if got != 2 || err != nil {
		t.Errorf("got %d, %v after an error, want 2", got, err)
	}
}

func TestWaiterTriesAgainAfterError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var v Value[int]
		release := make(chan struct{})
		failed := make(chan error)
		go func() {
			_, err := v.Do(t.Context(), func() (int, error) {
				<-release
				return 0, errTest
			})
			failed <- err
		}()
		synctest.Wait()
		second := make(chan int)
		go func() {
			got, err := v.Do(t.Context(), func() (int, error) { return 2, nil })
			if err != nil {
				t.Error(err)
			}
			second <- got
		}()
		synctest.Wait()
		close(release)
		if err := <-failed; err != errTest {
			t.Errorf("first caller got error %v, want %v", err, errTest)
		}
		if got := <-second; got != 2 {
			t.Errorf("second caller got %d, want 2", got)
		}
	})
}

func TestKeepErrors(t *testing.T) {
	m := Map[string, int]{KeepErrors: true}
	for range 2 {
		if got, err := m.Do(t.Context(), "a", func() (int, error) { return 1, errTest }); got != 1 || err != errTest {
			t.Fatalf("got %d, %v, want 1, %v", got, err, errTest)
		}
	}
	_, err := m.Do(t.Context(), "a", func() (int, error) {
		t.Error("computed again after a kept error")
		return 0, nil
	})
	if err != errTest {
		t.Errorf("got error %v, want %v", err, errTest)
	}
}

func TestWaiterLeavesWhenItsContextEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var v Value[int]
		release := make(chan struct{})
		first := make(chan int)
		go func() {
			got, err := v.Do(t.Context(), func() (int, error) {
				<-release
				return 1, nil
			})
			if err != nil {
				t.Error(err)
			}
			first <- got
		}()
		synctest.Wait()
		ctx, cancel := context.WithCancelCause(t.Context())
		waited := make(chan error)
		go func() {
			_, err := v.Do(ctx, func() (int, error) { return 0, errors.New("computed twice") })
			waited <- err
		}()
		synctest.Wait()
		cancel(errTest)
		if err := <-waited; err != errTest {
			t.Errorf("waiter got error %v, want %v", err, errTest)
		}
		close(release)
		if got := <-first; got != 1 {
			t.Errorf("first caller got %d, want 1", got)
		}
		if got, err := v.Do(ctx, nil); got != 1 || err != nil {
			t.Errorf("got %d, %v of a known value with an ended context, want 1", got, err)
		}
	})
}

func TestPanicIsNotAResult(t *testing.T) {
	v := Value[int]{KeepErrors: true}
	func() {
		defer func() { recover() }()
		v.Do(t.Context(), func() (int, error) { panic("test") })
	}()
	if got, err := v.Do(t.Context(), func() (int, error) { return 3, nil }); got != 3 || err != nil {
		t.Errorf("got %d, %v after a panic, want 3", got, err)
	}
}

func TestMapForget(t *testing.T) {
	var m Map[string, int]
	n := 0
	next := func() (int, error) { n++; return n, nil }
	for _, test := range []struct {
		key    string
		forget bool
		want   int
	}{
		{"a", false, 1},
		{"a", false, 1},
		{"b", false, 2},
		{"a", true, 3},
		{"b", false, 2},
	} {
		if test.forget {
			m.Forget(test.key)
		}
		if got, err := m.Do(t.Context(), test.key, next); got != test.want || err != nil {
			t.Errorf("%s: got %d, %v, want %d", test.key, got, err, test.want)
		}
	}
}

func TestForgottenComputationAnswersItsWaiters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var m Map[string, int]
		release := make(chan struct{})
		results := make(chan int)
		do := func(compute func() (int, error)) {
			got, err := m.Do(t.Context(), "a", compute)
			if err != nil {
				t.Error(err)
			}
			results <- got
		}
		go do(func() (int, error) { <-release; return 1, nil })
		synctest.Wait()
		go do(func() (int, error) { return 2, nil })
		synctest.Wait()
		m.Forget("a")
		if got, err := m.Do(t.Context(), "a", func() (int, error) { return 3, nil }); got != 3 || err != nil {
			t.Errorf("got %d, %v after Forget, want 3", got, err)
		}
		close(release)
		for range 2 {
			if got := <-results; got != 1 {
				t.Errorf("a caller before Forget got %d, want 1", got)
			}
		}
	})
}
