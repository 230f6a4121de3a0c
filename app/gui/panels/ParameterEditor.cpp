#include "app/gui/panels/ParameterEditor.h"

#include <QCheckBox>
#include <QComboBox>
#include <QDoubleSpinBox>
#include <QFormLayout>
#include <QLabel>
#include <QLineEdit>
#include <QSpinBox>

namespace qs::gui {

namespace {

using Set = std::function<void(const std::string&)>;

/// Beyond this width of a range steps follow the value's magnitude.
constexpr double wide_range = 10;

QWidget* flagEditor(const std::string& value, const Set& set) {
    auto* box = new QCheckBox;
    box->setChecked(value == "1");
    QObject::connect(box, &QCheckBox::toggled, box, [set](bool on) { set(on ? "1" : "0"); });
    return box;
}

QWidget* choiceEditor(const Parameter& parameter, const std::string& value, const Set& set) {
    auto* box = new QComboBox;
    for (const std::string& choice : parameter.choices)
        box->addItem(readable(choice), QString::fromStdString(choice));
    box->setCurrentIndex(box->findData(QString::fromStdString(value)));
    QObject::connect(box, &QComboBox::currentIndexChanged, box,
                     [set, box] { set(box->currentData().toString().toStdString()); });
    return box;
}

QWidget* integerEditor(const Parameter& parameter, const std::string& value, const Set& set) {
    auto* box = new QSpinBox;
    box->setRange(static_cast<int>(parameter.minimum), static_cast<int>(parameter.maximum));
    box->setValue(std::stoi(value));
    QObject::connect(box, &QSpinBox::valueChanged, box, [set](int number) { set(std::to_string(number)); });
    return box;
}

QWidget* realEditor(const Parameter& parameter, const std::string& value, const Set& set) {
    auto* box = new QDoubleSpinBox;
    box->setDecimals(3);
    box->setRange(parameter.minimum, parameter.maximum);
    if (parameter.maximum - parameter.minimum > wide_range)
        box->setStepType(QAbstractSpinBox::AdaptiveDecimalStepType);
    else
        box->setSingleStep((parameter.maximum - parameter.minimum) / 100);
    box->setValue(std::stod(value));
    QObject::connect(box, &QDoubleSpinBox::valueChanged, box,
                     [set](double number) { set(QString::number(number).toStdString()); });
    return box;
}

QWidget* makeEditor(const Parameter& parameter, const std::string& value, const Set& set) {
    if (parameter.kind == Parameter::Kind::flag)
        return flagEditor(value, set);
    if (!parameter.choices.empty())
        return choiceEditor(parameter, value, set);
    if (parameter.kind == Parameter::Kind::integer)
        return integerEditor(parameter, value, set);
    if (parameter.kind == Parameter::Kind::real)
        return realEditor(parameter, value, set);
    auto* box = new QLineEdit(QString::fromStdString(value));
    QObject::connect(box, &QLineEdit::textChanged, box, [set](const QString& typed) { set(typed.toStdString()); });
    return box;
}

} // namespace

QString readable(const std::string& name) {
    return QString::fromStdString(name).replace('_', ' ');
}

void addParameter(QFormLayout& form, const Parameter& parameter, const std::string& value, Set set) {
    QWidget* editor = makeEditor(parameter, value, set);
    editor->setObjectName("parameter_" + QString::fromStdString(parameter.name));
    editor->setToolTip(QString::fromStdString(parameter.help));
    editor->setAccessibleName(readable(parameter.name));
    auto* label = new QLabel(readable(parameter.name));
    label->setToolTip(QString::fromStdString(parameter.help));
    label->setBuddy(editor);
    form.addRow(label, editor);
}

} // namespace qs::gui
