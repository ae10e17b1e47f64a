// What stands beside a path reaches the player that shows it, whichever of the two is there first.
export default function (component) {
  if (!component.data) return;
  window.cytovaeEvidence = unpack(component.data);
  window.dispatchEvent(new CustomEvent("cytovae-evidence"));
}
