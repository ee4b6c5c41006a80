package repotest

import (
	"os"
	"path"
	"slices"
	"strings"
	"testing"
)

// A goroutine that is left behind fails the tests of its package.
func TestGoleakEverywhere(t *testing.T) {
	for _, problem := range leakProblems(files(t, os.DirFS(root))) {
		t.Error(problem)
	}
}

func TestLeakProblems(t *testing.T) {
	got := leakProblems(map[string][]byte{
		"a/a_test.go":  []byte("package a\nfunc TestMain(m *testing.M) { goleak." + "VerifyTestMain(m) }\n"),
		"a/b_test.go":  []byte("package a\n"),
		"b/b_test.go":  []byte("package b\n"),
		"c/c.go":       []byte("package c\n"),
		"c/readme.txt": []byte("no package"),
	})
	if want := []string{"b: no TestMain with goleak"}; !slices.Equal(got, want) {
		t.Errorf("problems %q, want %q", got, want)
	}
}

func leakProblems(all map[string][]byte) []string {
	checked := map[string]bool{}
	for name, data := range all {
		if strings.HasSuffix(name, "_test.go") {
			dir := path.Dir(name)
			checked[dir] = checked[dir] || strings.Contains(string(data), "goleak.VerifyTestMain(m")
		}
	}
	var problems []string
	for dir, ok := range checked {
		if !ok {
			problems = append(problems, dir+": no TestMain with goleak")
		}
	}
	slices.Sort(problems)
	return problems
}
