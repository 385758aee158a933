import { Controller } from "@hotwired/stimulus";

// Hides the rows that do not contain what is typed.
export default class extends Controller {
    static targets = ["field", "row"];

    apply() {
        const wanted = this.fieldTarget.value.toLowerCase();
        for (const row of this.rowTargets) {
            row.hidden = !row.textContent.toLowerCase().includes(wanted);
        }
    }
}
