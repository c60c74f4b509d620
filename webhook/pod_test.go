package webhook

import (
	"fmt"
	"strings"
)

// podReview is a review as an API server sends it, of a pod of 4 KB; of an
// update it has the pod twice.
func podReview(operation string) []byte {
	oldObject := "null"
	if operation == "UPDATE" {
		oldObject = pod("v1")
	}
	return fmt.Appendf(nil, `{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{`+
		`"uid":"705ab4f5-6393-11e8-b7cc-42010a800002","kind":{"group":"","version":"v1","kind":"Pod"},`+
		`"resource":{"group":"","version":"v1","resource":"pods"},"name":"web-1","namespace":"shop","operation":%q,`+
		`"userInfo":{"username":"system:serviceaccount:kube-system:replicaset-controller","uid":"a","groups":["system:authenticated"]},`+
		`"object":%s,"oldObject":%s,"dryRun":false,"options":{"kind":"CreateOptions","apiVersion":"meta.k8s.io/v1"}}}`,
		operation, pod("v2"), oldObject)
}

func pod(version string) string {
	const container = `{"name":"c","image":"registry.example.com/shop/web@sha256:4bcff63911fcb4448bd4fdacec207030997caf25e9bea4045fa6c8c44de311d1",` +
		`"ports":[{"containerPort":8080,"protocol":"TCP"}],"resources":{"limits":{"cpu":"500m","memory":"128Mi"}},"terminationMessagePath":"/dev/termination-log"},`
	return `{"kind":"Pod","apiVersion":"v1","metadata":{"name":"web-1","generateName":"web-","namespace":"shop",` +
		`"uid":"f0b4","labels":{"app":"web","team":"shop","version":"` + version + `","pod-template-hash":"7d4b9c"},` +
		`"annotations":{"example.com/checksum":"93f5\u003c","example.com/owner":"shop@example.com"},` +
		`"managedFields":[{"manager":"kube-controller-manager","fieldsV1":{"f:metadata":{"f:labels":{".":{},"f:app":{}}}}}]},` +
		`"spec":{"containers":[` + strings.TrimSuffix(strings.Repeat(container, 12), ",") + `],"terminationGracePeriodSeconds":30},` +
		`"status":{"phase":"Pending","qosClass":"Burstable"}}`
}
